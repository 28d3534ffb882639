"""Reductions of one layer's attention probabilities: B batch, H heads, P pixels, N tokens.

A layer hands its probabilities [B, H, P, N] to one of these and keeps only the result.
"""

from __future__ import annotations

from functools import partial

import torch
from einops import einsum, reduce
from torch import Tensor

from ..conditioning import AttentionStatistic


def token_means(probabilities: Tensor) -> Tensor:
    """Mean attention of every token over heads and pixels: [B, H, P, N] → [B, N]."""
    return reduce(probabilities, "B H P N -> B N", "mean")


def span_moments(spans: Tensor) -> AttentionStatistic:
    """Mean and unbiased variance over heads and pixels of each span's map: [B, H, P, N] → [B, S, 2].

    spans: which tokens make up each of `S` spans, [B, S, N], weights that sum to 1 over the tokens, so that the map
    of a span of several tokens is the mean of their maps.
    """
    return partial(_span_moments, spans=spans)


def _span_moments(probabilities: Tensor, spans: Tensor) -> Tensor:
    maps = einsum(probabilities, spans.to(probabilities), "B H P N, B S N -> B S H P")
    variance, mean = torch.var_mean(maps.flatten(2), dim=-1, correction=1)
    return torch.stack([mean, variance], dim=-1)


def whole_maps(probabilities: Tensor) -> Tensor:
    """The probabilities themselves, [B, H, P, N]; memory grows with heads times pixels times tokens."""
    return probabilities
