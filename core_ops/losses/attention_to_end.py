"""ViCo's regularizer (Hao et al. 2023): the concept looks where end-of-text looks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def distance_to_end(spans: Tensor, ends: Tensor) -> Callable[[Tensor], Tensor]:
    """Of one layer: mean over pixels of (A_v / max A_v − A_end / max A_end)², [B, H, P, N] → [B].

    Maps are means over heads. spans: weights of the concept's tokens, [B, N], that sum to 1. ends: position of the
    first end-of-text, [B]; its map is held fixed.
    """

    def distance(probabilities: Tensor) -> Tensor:
        maps = probabilities.float().mean(dim=1)
        concept = torch.einsum("bpn,bn->bp", maps, spans.to(maps))
        end = torch.einsum("bpn,bn->bp", maps.detach(), torch.nn.functional.one_hot(ends, maps.shape[-1]).to(maps))
        return (_peaking_at_one(concept) - _peaking_at_one(end)).square().mean(-1)

    return distance


def attention_to_end_loss(distances: Tensor) -> Tensor:
    """distances: of `L` layers, [L, B]. Summed over layers, averaged over the batch."""
    return distances.mean(1).sum()


def _peaking_at_one(maps: Tensor) -> Tensor:
    return maps / maps.amax(dim=-1, keepdim=True)
