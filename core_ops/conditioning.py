"""What a text encoder hands to a U-Net, and the small interface that recipes encode through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .prompts.token_rows import TokenRow

Embedding = Mapping[str, Tensor]
"""A concept's input embedding v: per encoder name, vectors [V, width]. SD1 and SD2 have one encoder, SDXL two."""


@dataclass(frozen=True)
class TextConditioning:
    """Output embeddings for `R` rows.

    outputs: per encoder, the layer that the U-Net consumes, [R, N, width], prompt weights not applied.
    context: what cross-attention reads, [R, N, D].
    pooled: pooled text for SDXL, [R, D'], else None.
    by_layer: what keys and values are made of in each of `L` attention blocks, [R, L, N, D] each; None: `context`.
    """

    outputs: Mapping[str, Tensor]
    context: Tensor
    pooled: Tensor | None = None
    by_layer: tuple[Tensor, Tensor] | None = None

    def __getitem__(self, rows: slice | Tensor) -> TextConditioning:
        return self._map(lambda tensor: tensor[rows])

    def detach(self) -> TextConditioning:
        return self._map(Tensor.detach)

    def expand(self, batch: int) -> TextConditioning:
        """One row repeated to a batch, without copying; already `batch` rows are passed through.

        Raises ValueError when there is more than one row and not `batch` of them.
        """
        rows = self.context.shape[0]
        if rows not in (1, batch):
            raise ValueError(
                f"conditioning: {rows} rows cannot serve a batch of {batch}; give one row or one per picture."
            )
        return self if rows == batch else self._map(lambda tensor: tensor.expand(batch, *tensor.shape[1:]))

    def _map(self, change: Callable[[Tensor], Tensor]) -> TextConditioning:
        return replace(
            self,
            outputs={name: change(output) for name, output in self.outputs.items()},
            context=change(self.context),
            pooled=None if self.pooled is None else change(self.pooled),
            by_layer=self.by_layer and (change(self.by_layer[0]), change(self.by_layer[1])),
        )

    def in_layers(self, layers: int) -> tuple[Tensor, Tensor]:
        """`by_layer` also of a text that is the same in all."""
        same = self.context.unsqueeze(1).expand(-1, layers, -1, -1)
        return self.by_layer or (same, same)

    @staticmethod
    def concatenate(parts: Sequence[TextConditioning]) -> TextConditioning:
        pooled = [part.pooled for part in parts if part.pooled is not None]
        layers = next((part.by_layer[0].shape[1] for part in parts if part.by_layer), 0)
        keys, values = zip(*(part.in_layers(layers) for part in parts), strict=True)
        return TextConditioning(
            outputs={name: torch.cat([part.outputs[name] for part in parts]) for name in parts[0].outputs},
            context=torch.cat([part.context for part in parts]),
            pooled=torch.cat(pooled) if pooled else None,
            by_layer=(torch.cat(keys), torch.cat(values)) if layers else None,
        )


class TextEncoder(Protocol):
    """A differentiable text encoder."""

    def encode(self, rows: Sequence[TokenRow], embedding: Embedding) -> TextConditioning:
        """Output embeddings of the rows, with `embedding` in their concept slots; differentiable in it."""
        ...

    def encode_with_bypass(
        self, rows: Sequence[TokenRow], embedding: Embedding, bypass: Embedding
    ) -> tuple[Tensor, Tensor]:
        """What keys are made of, and values: these with NeTI's `bypass` where the slots are; [R, N, D] each."""
        ...
