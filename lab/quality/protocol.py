"""What is run: which concepts and methods, and how long. `EVIDENCE` is the default; another is an option by name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..world.drawing.concepts import CONCEPTS, SHARED
from .methods import ALL, ALONE, CEILING, FAST, LOOKS, LORA, OTHERS_ALONE, SEARCHED, STRENGTHS, Method
from .subjects import BIASED, DIVERSE, Subject, Thing

CHOSEN_ON = ("patchwork-dog", "dotted-teapot")
"""Learning rates, steps and guidance were looked at on these; they are not reported."""
REPORTED = tuple(name for name in CONCEPTS if name not in CHOSEN_ON)
THINGS: Mapping[str, Subject] = {name: Thing(name) for name in CONCEPTS}


@dataclass(frozen=True)
class Protocol:
    """tiers: methods in portions; each portion is done for all concepts before the next, so that a run that is cut
    off leaves every method with the same concepts. steps are optimizer steps, rates AdamW's. found: by how a method's
    name begins, parts of its U-Net's rate that a search has found. charted: methods in the chart, by default all.
    shown: methods in the sheet of pictures. gain_of: the method whose gain over the first baseline chooses the
    concepts in it, those of the largest and of the median gain; the protocol's first concepts by default. published:
    steps, batches and rates are each method's own, as the nodes' presets have them, and not the protocol's. settings:
    of the nodes *embedding* and *finetune*, above every method's."""

    name: str
    tiers: Sequence[Sequence[str]]
    concepts: Sequence[str] = REPORTED
    references: Sequence[str] = (BIASED, DIVERSE)
    seeds: Sequence[int] = (0, 1)
    embedding_steps: int = 300
    finetune_steps: int = 200
    embedding_batch: int = 2
    finetune_batch: int = 2
    embedding_rate: float = 5e-3
    alignment_embedding_rate: float = 1e-3
    finetune_rate: float = 2e-4
    text_encoder_rate: float = 5e-4
    found: Mapping[str, float] = field(default_factory=dict)
    regularization_batch: int = 0
    class_images: int = 16
    sampling_steps: int = 12
    guidance: float = 3.0
    pictures_per_prompt: int = 2
    charted: Sequence[str] = ()
    shown: Sequence[str] = ("Textual Inversion", "TI + DreamBooth", "AttnDreamBooth", FAST)
    gain_of: str = ""
    published: bool = False
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def training(self) -> dict[str, Any]:
        """What a trained result depends on, beside its stages' own settings."""
        names = ("embedding_steps", "finetune_steps", "embedding_batch", "finetune_batch", "embedding_rate",
                 "alignment_embedding_rate", "finetune_rate", "regularization_batch", "class_images")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def rate_of(self, method: str) -> float:
        """How fast the U-Net learns, before the method's own factor."""
        parts = (part for name, part in self.found.items() if method.startswith(name))
        return self.finetune_rate * next(parts, 1.0)


@dataclass(frozen=True)
class Cell:
    """The smallest unit that is run, and skipped when it is there."""

    method: Method
    subject: Subject
    references: str
    seed: int

    @property
    def concept(self) -> str:
        return self.subject.name

    @property
    def kind(self) -> str:
        return self.subject.kind

    def pictures(self) -> list[Tensor]:
        """To learn from: each [1, H, W, 3] in 0…1."""
        return self.subject.pictures(self.references)

    def captions(self) -> list[str] | None:
        """None: the class alone."""
        return self.subject.captions(self.references) if self.method.sid_captions else None

    @property
    def place(self) -> tuple[str, str, str, int]:
        """By which its rows are told from others'."""
        return self.method.name, self.concept, self.references, self.seed

    @property
    def label(self) -> str:
        return f"{self.method.name}, {self.concept}, {self.references}, seed {self.seed}"

    @property
    def file_name(self) -> str:
        return digest(self.place)


def drawn_prompts(protocol: Protocol, cell: Cell) -> list[tuple[str, int]]:
    """Prompt template and seed of every picture of a cell; every method gets the same."""
    templates = [template for template in cell.subject.prompts for _ in range(protocol.pictures_per_prompt)]
    return [(template, 1_000 * cell.seed + index) for index, template in enumerate(templates)]


def cells(protocol: Protocol, subjects: Mapping[str, Subject] = THINGS) -> Iterator[Cell]:
    """In the order in which they are run. subjects: by the names that are the protocol's concepts."""
    for seed in protocol.seeds:
        for references in protocol.references:
            for tier in protocol.tiers:
                for concept in protocol.concepts:
                    for method in tier:
                        yield Cell(ALL[method], subjects[concept], references, seed)


def digest(value: Any) -> str:
    """A short name for anything that JSON can hold; equal values give equal names. None of them is a number, such as
    12e3, which a prompt would read as a weight."""
    name = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
    return f"n{name}" if re.fullmatch(r"\d+e?\d*", name) else name


EVIDENCE = Protocol(
    "evidence",
    tiers=(
        ("TI + DreamBooth", FAST, "Textual Inversion", f"{FAST}, embedding alone"),
        ("TI + DreamBooth, SID captions", f"{FAST}, SID captions"),
        ("AttnDreamBooth", "CoRe", "CoRe, published λ"),
        ("DreamBooth", "Custom Diffusion", f"{FAST}, test time"),
        ("CoRe without L_emb", "CoRe without L_attn", "CoRe without rescaling", "CoRe without the prompt set"),
    ),
    found={"TI + DreamBooth": 0.25, "CoRe": 0.5, "AttnDreamBooth": 0.5, "DreamBooth": 0.5, "Custom Diffusion": 0.25},
    charted=(
        "Textual Inversion",
        f"{FAST}, embedding alone",
        "TI + DreamBooth",
        "DreamBooth",
        "AttnDreamBooth",
        FAST,
        "TI + DreamBooth, SID captions",
        f"{FAST}, SID captions",
    ),
    shown=("Textual Inversion", f"{FAST}, embedding alone", "TI + DreamBooth", FAST, f"{FAST}, SID captions"),
    gain_of=f"{FAST}, SID captions",
)
"""What docs/results.md is made of: the published schedules scaled to what a processor trains in a day."""
OWN = replace(
    EVIDENCE,
    name="own",
    published=True,
    tiers=(
        ("Textual Inversion", f"{FAST}, embedding alone", f"TI + DreamBooth{LORA}", f"{FAST}{LORA}"),
        *EVIDENCE.tiers,
    ),
    charted=(),
    concepts=(),
    references=("photos",),
    seeds=(0,),
    found={},
    class_images=200,
    sampling_steps=50,
    guidance=7.5,
    shown=(f"TI + DreamBooth{LORA}", f"{FAST}{LORA}", "TI + DreamBooth", "AttnDreamBooth", "CoRe", FAST),
    gain_of="",
)
"""On somebody's own checkpoint and photos, with what each method is published with."""
SEARCH = replace(
    EVIDENCE,
    name="search",
    tiers=(tuple(SEARCHED),),
    found={},
    concepts=CHOSEN_ON,
    references=(BIASED,),
    seeds=(0,),
    pictures_per_prompt=1,
    charted=(),
    shown=tuple(SEARCHED),
    gain_of="",
)
"""Which rate the U-Net of each method gets: on the concepts that are not reported."""
SHORT = Protocol(
    "",
    tiers=(),
    concepts=("striped-cat", "split-backpack", "split-bear", "striped-vase"),
    seeds=(0,),
    embedding_steps=40,
    finetune_steps=40,
    regularization_batch=1,
    class_images=8,
    sampling_steps=8,
    pictures_per_prompt=1,
)
"""What the smaller ones have in common."""
EMBEDDED = Protocol(
    "embedded",
    tiers=((CEILING, "Textual Inversion", "TI + frozen word"),),
    concepts=tuple(CONCEPTS),
    references=(DIVERSE,),
    seeds=(0,),
    embedding_batch=4,
    finetune_batch=4,
    class_images=32,
    sampling_steps=25,
    pictures_per_prompt=1,
    shown=(CEILING, "Textual Inversion", "TI + frozen word"),
)
"""How near to each of the world's concepts the embedded checkpoint comes, as an embedding and with its U-Net."""
STRENGTH = replace(
    SHORT,
    name="strength",
    shown=tuple(f"{name}{ALONE}" for name in STRENGTHS),
    tiers=tuple(
        tuple(f"{name}{stage}" for name in names)
        for stage in (ALONE, "", LORA)
        for names in (
            ("CoRe, λ 0", "CoRe, shares 0.1", "CoRe, shares 0.3"),
            ("CoRe, shares 0.2",),
            ("CoRe, published λ", "CoRe, shares 0.05", "CoRe, shares 0.15"),
        )
    ),
)
"""How strong the regularizers should be: the word alone first, then with the U-Net after it, then with a LoRA."""
QUICK_START = replace(
    STRENGTH,
    name="quick_start",
    tiers=tuple((f"{name}{ALONE}",) for name in STRENGTHS),
    concepts=CHOSEN_ON[:1],
    references=(DIVERSE,),
    embedding_steps=100,
    embedding_batch=6,
    regularization_batch=0,
)
"""The same in the quick start's training."""
COAT = replace(
    STRENGTH,
    name="coat",
    tiers=((f"CoRe, λ 0{ALONE}", f"CoRe, shares 0.1{ALONE}"),),
    concepts=tuple(CONCEPTS),
    references=(DIVERSE,),
)
"""Whether the word alone keeps the thing's coat, over all the world's concepts."""
CAPTIONS = replace(
    SHORT,
    name="captions",
    tiers=(("TI + DreamBooth", "TI + DreamBooth, SID captions"), (FAST, f"{FAST}, SID captions")),
    concepts=SHORT.concepts[:3],
    references=tuple(SHARED),
    embedding_steps=100,
    finetune_steps=60,
    regularization_batch=0,
)
"""What captions keep out: references that share one thing, described or not."""
EVERY_METHOD = replace(
    SHORT,
    name="methods",
    tiers=(
        ("Textual Inversion", "CoRe, stage 1", *(f"{name}{ALONE}" for name in OTHERS_ALONE)),
        ("CoRe, shares 0.1", f"CoRe + TEA{ALONE}", "Custom Diffusion", "ClassDiffusion"),
        ("DreamBooth", "DreamBooth with text encoder"),
        tuple(f"CoRe, {name}" for name in LOOKS),
    ),
    references=(DIVERSE,),
    embedding_steps=100,
    embedding_batch=4,
    finetune_steps=60,
    regularization_batch=0,
    shown=("Textual Inversion", "CoRe, stage 1", *(f"{name}{ALONE}" for name in OTHERS_ALONE)),
)
"""Every method of both training nodes, in few steps."""
SMOKE = replace(
    SHORT,
    name="smoke",
    tiers=(
        ("TI + DreamBooth", "AttnDreamBooth", f"{FAST}, test time", "TI + DreamBooth, SID captions"),
        ("DreamBooth", CEILING),
    ),
    concepts=CHOSEN_ON[:1],
    references=(BIASED,),
    embedding_steps=2,
    finetune_steps=3,
    class_images=2,
    sampling_steps=1,
)
"""Runs everything once; its results mean nothing."""
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (EVIDENCE, SEARCH, EMBEDDED, STRENGTH, QUICK_START, COAT, CAPTIONS, EVERY_METHOD, SMOKE)
}
