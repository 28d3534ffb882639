"""What a probe watches: which words of which text, in which layers, part and steps, and how much memory that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ....core_ops.captured_attention import Size, canvas_bytes
from ....core_ops.prompts.prompt_words import WatchedWord
from ..models.unet_layout import Layer, LayerPlace

PARTS = ("positive", "negative")
"""The host's names of the conditional and the unconditional part, in the order in which it hands them on."""


@dataclass(frozen=True)
class WatchedText:
    """A prompt, its watched words, and how its place in a sampler's conditioning is known.

    length: tokens of the prompt in all its rows. row_length: of one row. contexts: text encodings [1 or b, n, D] that
    mark the conditioning entries to watch; other entries are not. contexts_given: the user connected them, so one of
    them must be sampled with.
    """

    prompt: str
    words: tuple[WatchedWord, ...]
    length: int
    row_length: int
    contexts: tuple[Tensor, ...]
    contexts_given: bool


@dataclass(frozen=True)
class WatchPlan:
    """What a probe watches. part: one of `PARTS`. steps: counted from 1. memory_limit: bytes."""

    text: WatchedText
    layers: Mapping[Layer, LayerPlace]
    part: str
    steps: range
    each_step: bool
    each_head: bool
    memory_limit: int

    def canvas_sizes(self, latent: Size) -> dict[int, tuple[Size, int]]:
        """Size and heads of the canvas for each number of halvings, from fine to coarse."""
        height, width = latent
        sizes = {}
        for place in sorted(self.layers.values(), key=lambda place: place.halvings):
            divisor = 2**place.halvings
            size = -(-height // divisor), -(-width // divisor)  # the host's U-Net rounds up when it halves
            sizes[place.halvings] = size, place.heads if self.each_head else 1
        return sizes

    def bytes_needed(self, latent: Size, steps: int, images: int) -> int:
        """Main memory that the maps of a sampling take."""
        canvases = list(self.canvas_sizes(latent).values())
        return canvas_bytes(canvases, steps=steps if self.each_step else 1, images=images, words=len(self.text.words))
