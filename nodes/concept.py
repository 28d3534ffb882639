"""The values that flow between our nodes: a learned concept, a trained LoRA, and what is known of photos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..core_ops.prompts.prompt_templates import template_with_category
from ..core_ops.quoting import quoted
from ..core_ops.space_time.space_time_embedding import SpaceTimeEmbedding
from .host.models.text_encoder import encoder_widths


@dataclass(frozen=True)
class Concept:
    """A concept whose embedding lies in the embeddings folder, or will when it has been learned; or words of the model.

    name: of the file, without suffix. vectors: per text encoder, [V, width] in fp32 on the CPU; none yet in what is to
    be learned. with_category: prompts read "[V] super-category" (AttnDreamBooth) and not "[V]" alone. words: what calls
    it, where it has no file. space_time: of a method that learns it by the U-Net's layers; `vectors` are its mean then.
    """

    name: str
    super_category: str
    vectors: Mapping[str, Tensor]
    path: Path
    with_category: bool = False
    words: str = ""
    space_time: SpaceTimeEmbedding | None = None

    @property
    def token(self) -> str:
        """What calls it in any CLIP Text Encode."""
        return self.words or f"embedding:{self.name}"

    @property
    def phrase(self) -> str:
        """What stands for the concept in a prompt."""
        return self.phrase_of(self.token)

    def phrase_of(self, token: str) -> str:
        """The same where another token calls it."""
        return f"{token} {self.super_category}" if self.with_category else token

    def learned_further(self, name: str, vectors: Mapping[str, Tensor], path: Path) -> Concept:
        """As a plain embedding of another name, whatever it was before."""
        return replace(self, name=name, vectors=vectors, path=path, words="", space_time=None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What who draws it should know."""
        return (BY_LAYER,) if self.space_time else ()

    @property
    def length(self) -> int:
        """How many vectors it has; raises ValueError before it is learned."""
        if not self.vectors:
            raise ValueError(f"concept: {quoted(self.name)} has not been learned yet; train it first.")
        return next(iter(self.vectors.values())).shape[0]

    def validate_for(self, clip: Any, parameter: str = "concept") -> None:
        """Raises ValueError, beginning with `parameter`, when it was learned on another kind of model."""
        own = {name: vectors.shape[-1] for name, vectors in self.vectors.items()}
        needed = encoder_widths(clip)
        if own != needed:
            raise ValueError(
                f"{parameter}: {quoted(self.name)} is an embedding for {_shown(own)}, this model needs "
                f"{_shown(needed)}; load the base model that it was learned on, or train the concept on this one."
            )

    def caption(self, template: str) -> str:
        """A caption template as the concept's method writes it; {} stays."""
        return template_with_category(template, self.super_category) if self.with_category else template


BY_LAYER = "Note: it differs by layer. Apply Concept draws it so; in other nodes and files its mean stands for it."


class LoraModel(dict[str, Tensor]):
    """Core's LORA_MODEL, weights by kohya's keys, that also knows how it was trained.

    card: JSON values; base_model_fingerprint among them.
    """

    def __init__(self, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
        super().__init__(tensors)
        self.card = card


@dataclass(frozen=True)
class PhotoFacts:
    """What a folder says of its pictures besides themselves.

    repeats: how often each is drawn, compared with the others. summary: such as "12 pictures, 2 skipped: notes.pdf (no
    picture)".
    """

    repeats: Sequence[int]
    summary: str

    def repeats_of(self, pictures: int) -> Sequence[int]:
        """In lowest terms; empty where all are drawn alike. Raises ValueError for another number of pictures."""
        if len(self.repeats) != pictures:
            raise ValueError(
                f"photos: it is about {len(self.repeats)} pictures, and images has {pictures}; connect both from "
                "the same Concept Images, or images alone."
            )
        return [] if len(set(self.repeats)) == 1 else [each // math.gcd(*self.repeats) for each in self.repeats]


ConceptIO = io.Custom("CORE_CONCEPT")
PhotosIO = io.Custom("CORE_PHOTOS")


def _shown(widths: Mapping[str, int]) -> str:
    return " and ".join(f"{name} of width {width}" for name, width in widths.items())
