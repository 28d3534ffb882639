"""What is compared with what, and what must hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """ours, other: subjects, "who:work". time, memory: highest allowed ratio ours / other, None for none."""

    name: str
    title: str
    ours: str
    other: str
    time: float | None
    memory: float | None = None
    same_loss: bool = True


SIZES_OF_PICTURES = (1, 2, 3, 6)
"""How many different ones a batch has."""
COMPARISONS = (
    Comparison(
        "textual-inversion", "Textual Inversion step / diffusers", "ours:textual-inversion",
        "peers:textual-inversion", 0.95, 0.9,
    ),
    Comparison(
        "textual-inversion-pixels", "Textual Inversion step / diffusers, encoding in each step",
        "ours:textual-inversion", "peers:textual-inversion-pixels", 0.95, 0.9, same_loss=False,
    ),
    Comparison("core", "CoRe step / released method", "ours:core", "peers:core", 0.55, 0.6),
    Comparison(
        "core-fast", "CoRe fast step / released method", "ours:core-fast", "peers:core", 0.45, 0.6, same_loss=False
    ),
    Comparison(
        "attndreambooth-1", "AttnDreamBooth stage 1 / released method", "ours:attndreambooth-1",
        "peers:attndreambooth-1", 0.8, 0.8,
    ),
    Comparison(
        "attndreambooth-2", "AttnDreamBooth stage 2 / released method", "ours:attndreambooth-2",
        "peers:attndreambooth-2", 0.8, 0.8,
    ),
    Comparison(
        "attndreambooth-3", "AttnDreamBooth stage 3 / released method", "ours:attndreambooth-3",
        "peers:attndreambooth-3", 0.8, 0.8,
    ),
    Comparison("finetune", "Full finetune step / diffusers DreamBooth", "ours:finetune", "peers:finetune", 0.95, 0.8),
    Comparison(
        "finetune-fused", "Full finetune step, fused_backward / diffusers DreamBooth", "ours:finetune-fused",
        "peers:finetune", 0.95, 0.8,
    ),
    Comparison("lora", "LoRA step / core's Train LoRA", "ours:lora", "core_nodes:lora", 0.8, 0.9, same_loss=False),
    Comparison(
        "test-time", "Test-time optimization / 20-step generation", "ours:test-time", "core_nodes:generation", 1.0,
        same_loss=False,
    ),
    Comparison(
        "test-time-fast", "Test-time optimization, shared queries / as published", "ours:test-time-fast",
        "ours:test-time", 1.0, same_loss=False,
    ),
    Comparison(
        "probed", "Probed / unprobed sampling", "ours:probed", "core_nodes:generation", 1.1, 1.03, same_loss=False
    ),
    *(
        Comparison(
            f"core-{count}-sizes", f"CoRe step, pictures of {count} sizes / of one", f"ours:core-{count}-sizes",
            "ours:core-1-sizes", None, same_loss=False,
        )
        for count in SIZES_OF_PICTURES[1:]
    ),
    Comparison(
        "core-own", "CoRe step / our Textual Inversion step", "ours:core", "ours:textual-inversion", 2.4,
        same_loss=False,
    ),
    Comparison(
        "core-fast-own", "CoRe fast step / our Textual Inversion step", "ours:core-fast", "ours:textual-inversion",
        1.35, same_loss=False,
    ),
)  # fmt: skip
BY_NAME = {comparison.name: comparison for comparison in COMPARISONS}
EVERYTHING = tuple(name for name in BY_NAME if not name.endswith("-sizes"))
"""But for what needs a batch and a side of its own."""

OTHER_LIMITS: dict[tuple[str, str], float] = {("sd21-256", "core"): 0.88}
"""Limits on time that differ at a size."""


def time_limit(comparison: Comparison, size: str) -> float | None:
    return OTHER_LIMITS.get((size, comparison.name), comparison.time)
