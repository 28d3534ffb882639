"""XTI (Voynov et al. 2023, arXiv 2303.09522): vectors of its own for each attention block, the space P+."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import repeat
from torch import Tensor

from ..conditioning import Embedding
from .space_time_embedding import PREFIX, SpaceTimeEmbedding, SpaceTimeVectors

KEY = f"{PREFIX}vectors."


class LayerVectors(SpaceTimeEmbedding):
    """v_l [L, V, width] per text encoder, in fp32."""

    timed = False

    def __init__(self, by_layer: Mapping[str, Tensor]) -> None:
        self.by_layer = {name: v.detach().clone().float().requires_grad_() for name, v in by_layer.items()}

    @classmethod
    def starting_from(cls, initial: Embedding, layers: int) -> LayerVectors:
        """The same vectors [V, width] in every block."""
        return cls({name: repeat(v, "V width -> L V width", L=layers) for name, v in initial.items()})

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> LayerVectors:
        """Of what `tensors` gave."""
        return cls({name.removeprefix(KEY): v for name, v in tensors.items() if name.startswith(KEY)})

    @property
    def layers(self) -> int:
        return next(iter(self.by_layer.values())).shape[0]

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.by_layer.values())

    @property
    def vectors(self) -> dict[str, Tensor]:
        """Their mean over the blocks."""
        return {name: v.mean(0) for name, v in self.by_layer.items()}

    def at(self, t: Tensor, random: torch.Generator | None = None) -> SpaceTimeVectors:
        return SpaceTimeVectors({name: v.expand(len(t), *v.shape) for name, v in self.by_layer.items()})

    def tensors(self) -> dict[str, Tensor]:
        return {f"{KEY}{name}": v.detach().cpu().clone() for name, v in self.by_layer.items()}
