"""A concept's embedding v(t, l): its own at every timestep t and in every attention block l of the U-Net.

`B` timesteps, `L` attention blocks, `V` vectors. Block l reads the prompt with v(t, l) in it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor

from ..conditioning import Embedding, TextConditioning, TextEncoder
from ..prompts.token_rows import ConceptSlot, TokenRow
from ..training.embedding_problem import TrainableEmbedding

PREFIX = "space_time."
"""Of its tensors in a file."""


@dataclass(frozen=True)
class SpaceTimeVectors:
    """By encoder, [B, L, V, width] each. bypass: what is added to the output where values are made of it, or None."""

    v: Embedding
    bypass: Embedding | None = None


class SpaceTimeEmbedding(TrainableEmbedding):
    """timed: whether it depends on t at all."""

    timed: ClassVar[bool]

    @property
    @abstractmethod
    def layers(self) -> int:
        """Attention blocks of the U-Net that it was made for."""

    @abstractmethod
    def at(self, t: Tensor, random: torch.Generator | None = None) -> SpaceTimeVectors:
        """For timesteps t [B]; random: of a training, for what is drawn there."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that a file needs, on the CPU, by names that begin with `PREFIX`."""

    def text(
        self, encoder: TextEncoder, rows: Sequence[TokenRow], t: Tensor, random: torch.Generator | None = None
    ) -> TextConditioning:
        """Each row at its timestep of t [B]. What all layers share, and SDXL's pooled text, is of `vectors`."""
        by_layer = self.contexts(encoder, rows, t, random)
        return replace(encoder.encode(rows, self.vectors), by_layer=by_layer)

    def contexts(
        self, encoder: TextEncoder, rows: Sequence[TokenRow], t: Tensor, random: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """What keys are made of, and values, [B, L, N, D] each."""
        vectors = self.at(t, random)
        each = [moved(row, place) for place, row in enumerate(row for row in rows for _ in range(self.layers))]
        v = _slots(vectors.v)
        if vectors.bypass is None:
            keys = values = encoder.encode(each, v).context
        else:
            keys, values = encoder.encode_with_bypass(each, v, _slots(vectors.bypass))
        keys, values = (rearrange(x, "(B L) N D -> B L N D", L=self.layers) for x in (keys, values))
        return keys, values


def moved(row: TokenRow, place: int) -> TokenRow:
    """The row with slots of the vectors number `place` · V on, in place of the first V."""

    def slot(token: int | Tensor | ConceptSlot) -> int | Tensor | ConceptSlot:
        return ConceptSlot(place * len(row.span) + token.index) if isinstance(token, ConceptSlot) else token

    return replace(row, tokens={name: tuple(map(slot, tokens)) for name, tokens in row.tokens.items()})


def _slots(vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """[B, L, V, width] → [B·L·V, width]: what `moved` rows refer to."""
    return {name: rearrange(each, "B L V width -> (B L V) width") for name, each in vectors.items()}
