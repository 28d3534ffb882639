"""What one step of a training makes the CPU wait for: each copy to and from the card, each number read of it.

A step that waits in its middle leaves the card idle. Counted on cards of shapes alone, by the line of ours; what is
needed is listed here, and anything else fails with its line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from shape_only import nodes
from shape_only.card import READ, TO_CARD, TO_HOST, Wait
from shape_only.host import Models, Places, placed, pretended_cards

ROOT = Path(__file__).resolve().parents[2]
Place = tuple[str, str, str]
"""Kind, file and function of a wait."""
Needed = dict[Place, int]
"""How often, in one step."""

LOSSES: Needed = {(READ, "core_ops/training/training_loop.py", "_accumulate"): 1}
SCALE: Needed = {(READ, "core_ops/training/training_loop.py", "_differentiate"): 1}
FINITE: Needed = {(READ, "core_ops/training/training_loop.py", "_updating"): 1}
"""A fused backward pass updates as it goes, so it looks at the losses first."""
NORM: Needed = {(READ, "core_ops/training/embedding_problem.py", "mean_norm"): 1}


def batch(draws: int = 1) -> Needed:
    """Timesteps and noise; rows of the samples, and where those are among all."""
    return {(TO_CARD, "core_ops/training/training_data.py", "noised_batch"): 4 * draws}


def tokens(calls: int) -> Needed:
    """The host's encoder copies the tokens, and what it makes of them, in every call."""
    return {(TO_CARD, "nodes/host/models/text_encoder.py", "_hidden"): 5 * calls}


SPANS: Needed = {(TO_CARD, "core_ops/terms.py", "losses"): 1}
CORE = LOSSES | batch() | NORM
WEIGHTED_PROMPT: Needed = {(TO_CARD, "nodes/host/models/text_encoder.py", "_weigh"): 5}
REFINED: Needed = {
    (TO_CARD, "core_ops/recipes/prompt_refinement.py", "trust_region"): 1,
    (TO_HOST, "core_ops/training/embedding_problem.py", "snapshot"): 2,  # what is kept, and how far it moved
}
CASES = [
    pytest.param("sd1", nodes.train_embedding, {"method": "CoRe"}, CORE | tokens(2), id="CoRe"),
    pytest.param(
        "sd1", nodes.train_embedding, {"method": "CoRe", "precision": "fp16"}, CORE | tokens(2) | SCALE, id="CoRe, fp16"
    ),
    pytest.param(
        "sd1",
        nodes.train_embedding,
        {"method": "AttnDreamBooth stage 1"},
        LOSSES | batch() | NORM | tokens(1) | SPANS,
        id="AttnDreamBooth",
    ),
    pytest.param(
        "sd1",
        nodes.train_embedding,
        {"method": "Textual Inversion", "gradient_checkpointing": True, "max_gradient_norm": 1.0},
        LOSSES | batch() | NORM | tokens(1),
        id="Textual Inversion, checkpointing",
    ),
    *(
        pytest.param("sd1", nodes.finetune, {"form": form}, LOSSES | batch(), id=form)
        for form in ("full weights", "LoRA", "DoRA", "T-LoRA", "LoHa", "LoKr", "OFT", "singular values")
    ),
    pytest.param("sdxl", nodes.finetune, {"form": "LoRA"}, LOSSES | batch(), id="LoRA, SDXL"),
    pytest.param(
        "sd1",
        nodes.finetune,
        {"form": "T-LoRA", "train_text_encoder": True, "gradient_checkpointing": True},
        LOSSES | batch() | tokens(1),
        id="T-LoRA, text encoder",
    ),
    pytest.param(
        "sd1",
        nodes.finetune,
        {"form": "full weights", "fused_backward": True},
        LOSSES | FINITE | batch(),
        id="fused backward",
    ),
    pytest.param(
        "sd1", nodes.finetune, nodes.EVERYTHING, LOSSES | batch(2) | NORM | tokens(1) | SPANS, id="LoRA, everything on"
    ),
    pytest.param(
        "sd1",
        nodes.refine,
        {"trust_limit": 0.1},
        LOSSES | tokens(1) | WEIGHTED_PROMPT | REFINED,
        id="test-time optimization",
    ),
]


@pytest.fixture(scope="module")
def families(embeddings: Path) -> Iterator[dict[str, Models]]:
    loaded = {name: nodes.load(name, embeddings) for name in nodes.SMALL}
    with nodes.quick_collections():
        yield loaded


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the last preview, which is after the steps."""
    from core_personalization.nodes.training.concept_preview import ConceptPreview

    monkeypatch.setattr(ConceptPreview, "draw", lambda *_: torch.zeros(1, 8, 8, 3))


@pytest.fixture(autouse=True)
def every_step_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host leaves out reports that follow within a tenth of a second."""
    monkeypatch.setattr("comfy.utils.PROGRESS_THROTTLE_MIN_INTERVAL", 0.0)


@pytest.mark.parametrize(("family", "run", "given", "needed"), CASES)
def test_a_step_waits_for_what_it_needs_alone(families, family, run, given, needed):
    found = steady_waits(families[family], run, given)
    assert found, "nothing was noted, so nothing was counted"
    counts: Counter[Place] = Counter()
    for wait, count in found.items():
        counts[wait.place] += count
    needless = [f"{count}× {wait}" for wait, count in found.items() if counts[wait.place] > needed.get(wait.place, 0)]
    assert not needless, "\n".join(needless)


def steady_waits(models: Models, run: Callable[..., None], given: Mapping[str, Any]) -> Counter[Wait]:
    """Those of the second step, from one report of progress to the next; the last also measures the steady loss."""
    import comfy.utils

    found: list[Counter[Wait]] = []
    with pretended_cards(ROOT) as cards:

        def reported(step: int, total: int, preview: Any, node_id: str | None = None) -> None:
            if step == 2:
                found.append(Counter(cards.waits))
            cards.waits.clear()

        comfy.utils.set_progress_bar_global_hook(reported)
        try:
            run(placed(models, Places()), **{**given, "steps": 3})
        finally:
            comfy.utils.set_progress_bar_global_hook(None)
    return found[0]
