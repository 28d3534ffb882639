"""Settings of "Concept Images", and what each input means."""

from __future__ import annotations

from dataclasses import dataclass

from ...core_ops.prompts.concept_words import USUAL, parse_words, with_place
from ...core_ops.prompts.prompt_templates import validate_template
from ..settings import integer, text

SMALLEST = 64
OPENING = "a photo of a {}"


@dataclass(frozen=True)
class PhotoSettings:
    """Inputs of "Concept Images" after the folder, in the order in which they are shown."""

    shorter_side: int = integer(
        1024,
        low=0,
        high=8192,
        step=8,
        help=(
            "In pixels. Larger photos are made smaller while they are read, so that hundreds fit into memory; smaller "
            "ones stay as they are. The model's own resolution is enough: 512 for Stable Diffusion 1.5, 1024 for SDXL. "
            "0: all pixels are kept."
        ),
    )
    concept_words: str = text(
        USUAL,
        help=(
            "Words that stand for the concept in the captions, separated by commas, as other trainers call them: "
            "trigger word, instance token. They become {}, and nothing of them is left."
        ),
    )
    super_category: str = text(
        "",
        help=(
            "What kind of thing it is, as in the training node: dog, teapot. After a word for the concept it becomes "
            "part of {}, as in 'sks dog'; in a caption with none of the words, {} takes its place. Empty: it stays."
        ),
    )
    start: str = text(
        OPENING,
        help=(
            "What a caption begins with in which none of the words occurs, with {} once for the concept. Pictures "
            "without a caption take that of the training node."
        ),
        advanced=True,
    )

    def __post_init__(self) -> None:
        validate_template("start", self.opening)
        if 0 < self.shorter_side < SMALLEST:
            raise ValueError(
                f"shorter_side: {self.shorter_side} pixels are too few to learn from; set it to {SMALLEST} or more, or "
                "to 0 for all."
            )

    @property
    def opening(self) -> str:
        return " ".join(self.start.split()) or OPENING

    def template(self, caption: str) -> tuple[str, int]:
        """A file's caption with {} once, and how often it named the concept; where no word does, its kind may, once."""
        placed, count = with_place(caption, parse_words(self.concept_words), self.super_category)
        if not count:
            by_kind, mentions = with_place(caption, parse_words(self.super_category))
            placed, count = (by_kind, 1) if mentions == 1 else (placed, 0)
        return placed if count or not placed else f"{self.opening}, {placed}", count
