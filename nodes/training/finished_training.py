"""What a training that was made before left beside what it learned: curves and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import file_metadata
from .concept_preview import read_picture, references
from .loss_chart import loss_chart
from .session import picture_beside


@dataclass(frozen=True)
class FinishedTraining:
    """path: of its file. card: what that says. Curves are thinned out in it."""

    path: Path
    card: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> FinishedTraining:
        return cls(path, file_metadata.read_card(path))

    @property
    def losses(self) -> Mapping[str, list[float]]:
        return self.card.get("curves", {})

    def chart(self) -> Tensor:
        """[1, H, W, 3]."""
        return loss_chart(self.losses, self.card.get("steady_steps", []), self.card.get("steps_done", 1))

    def preview(self, pixels: Tensor) -> Tensor:
        """[1, H, W, 3]; of a training without, some of the pictures [I, 3, S, S]."""
        drawn = read_picture(picture_beside(self.path))
        return references(pixels) if drawn is None else drawn

    def summary(self, name: str, phrase: str) -> str:
        """Lines for the node. phrase: what the user writes in prompts."""
        return "\n".join(
            [
                f"{name}: trained before with the same pictures and settings; loaded.",
                f"Write {phrase} in any prompt.",
                f"{self.path.name}: {self.card.get('steps_done')} steps",
            ]
        )
