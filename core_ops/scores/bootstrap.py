"""A mean with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1 << 22
"""Resampled values held at once."""


@dataclass(frozen=True)
class Estimate:
    """Mean of n values; low and high bound its interval, and are None when n is 1 and there is none."""

    mean: float
    low: float | None
    high: float | None
    n: int


def estimate_mean(
    values: Tensor, generator: torch.Generator, resamples: int = 2000, confidence: float = 0.95
) -> Estimate:
    """The mean of values [n] and its interval from `resamples` draws of n values with replacement.

    The values' order does not matter: they are sorted first. Raises ValueError when there is none or one is not finite.
    """
    if values.ndim != 1 or not values.numel():
        raise ValueError(f"values: got shape {tuple(values.shape)}; a mean needs at least one value in a row.")
    if not bool(torch.isfinite(values).all()):
        raise ValueError("values: some are not finite; look at the features that they come from.")
    ordered = values.double().sort().values
    count = ordered.numel()
    mean = ordered.mean().item()
    if count == 1:
        return Estimate(mean, low=None, high=None, n=1)
    means: list[Tensor] = []
    at_once = max(BLOCK // count, 1)
    for start in range(0, resamples, at_once):
        draws = min(at_once, resamples - start)
        means.append(ordered[torch.randint(count, (draws, count), generator=generator)].mean(dim=-1))
    return percentile_estimate(mean, torch.cat(means), n=count, confidence=confidence)


def percentile_estimate(mean: float, resampled: Tensor, n: int, confidence: float = 0.95) -> Estimate:
    """The mean of n values with its interval by the percentiles of `resampled` means [R]."""
    tail = (1 - confidence) / 2
    low, high = torch.quantile(resampled, torch.tensor([tail, 1 - tail], dtype=resampled.dtype)).tolist()
    # Rounding alone could leave equal values outside.
    return Estimate(mean, low=min(low, mean), high=max(high, mean), n=n)
