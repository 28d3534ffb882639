"""What is learned: a thing of the mini world, with the pictures it is learned from and the prompts it is drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..world.drawing import concepts
from ..world.drawing.concepts import CONCEPTS, SHARED
from ..world.drawing.objects import ANIMATE
from ..world.drawing.render import Scene, pixels

DIVERSE, BIASED = "diverse", "biased"


class Subject(Protocol):
    """kind: its super-category. prompt_set: CoRe's for it. prompts: of the evaluation, with {} for the concept."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def prompt_set(self) -> str: ...
    @property
    def prompts(self) -> Sequence[str]: ...

    def pictures(self, references: str) -> list[Tensor]:
        """As a loader node gives them: each [1, H, W, 3] in 0…1. references: of which kind."""

    def captions(self, references: str) -> list[str] | None:
        """SID's, one for each picture; None where there are none."""


@dataclass(frozen=True)
class Thing:
    """One of the mini world's concepts, by its name."""

    name: str

    @property
    def kind(self) -> str:
        return CONCEPTS[self.name][0]

    @property
    def prompt_set(self) -> str:
        return "animate" if self.kind in ANIMATE else "inanimate"

    @property
    def prompts(self) -> Sequence[str]:
        return concepts.prompt_templates(self.name)

    def scenes(self, references: str) -> list[Scene]:
        if references in SHARED:
            return concepts.alike_references(self.name, references)
        return concepts.biased_references(self.name) if references == BIASED else concepts.references(self.name)

    def pictures(self, references: str) -> list[Tensor]:
        images, _ = pixels(self.scenes(references))
        return list((torch.from_numpy(images).float() / 255).split(1))

    def captions(self, references: str) -> list[str]:
        """What is beside the subject, in words, through the product's own check."""
        from core_personalization.nodes.captions.wording import CaptionForm, repair

        return [
            repair(scene.caption(), CaptionForm(self.kind, start=f"a {scene.style} of a {{}}")).text
            for scene in self.scenes(references)
        ]
