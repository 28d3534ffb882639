"""AttnDreamBooth's regularizer (Pang et al. 2024): the concept looks where its super-category looks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def span_moments(spans: Tensor) -> Callable[[Tensor], Tensor]:
    """Of one layer: mean and unbiased variance over heads and pixels of each span's map, [B, H, P, N] → [B, S, 2].

    spans: which tokens make up each of `S` spans, [B, S, N], weights that sum to 1 over the tokens, so that the map
    of a span of several tokens is the mean of their maps.
    """

    def moments(probabilities: Tensor) -> Tensor:
        maps = torch.einsum("bhpn,bsn->bshp", probabilities, spans.to(probabilities))
        variance, mean = torch.var_mean(maps.flatten(2), dim=-1, correction=1)
        return torch.stack([mean, variance], dim=-1)

    return moments


def attention_alignment_loss(moments: Tensor, mean_weight: float, variance_weight: float) -> Tensor:
    """AttnDreamBooth's cross-attention regularization, as in the released program.

    moments: `span_moments` of the concept and of the super-category, [L, B, 2 (concept, super-category), 2 (mean,
    variance)]. Per layer and sample w_mean (mean_V − mean_cat)² + w_var (var_V − var_cat)², summed over the batch,
    averaged over the `L` layers.
    """
    mean, variance = (moments[:, :, 0] - moments[:, :, 1]).square().unbind(-1)
    return (mean_weight * mean + variance_weight * variance).sum(1).mean()
