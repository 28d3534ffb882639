"""Means with intervals that speak of the next concept and the next training, not only of the next picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from core_personalization.core_ops.scores import Estimate, percentile_estimate
from torch import Tensor

RESAMPLES, SEED = 2000, 0


def hierarchical_estimate(values: Sequence[Sequence[Tensor]]) -> Estimate:
    """The mean over all pictures, and the interval of a hierarchical bootstrap: concepts are drawn with replacement, of
    each its training seeds, of each of those its pictures.

    values: by concept, by seed, of its pictures [n]. Of one concept and seed it is the bootstrap over pictures; of a
    single picture there is no interval.
    """
    everything = torch.cat([pictures for seeds in values for pictures in seeds]).double()
    mean, count = everything.mean().item(), everything.numel()
    if count == 1:
        return Estimate(mean, low=None, high=None, n=1)
    generator = torch.Generator().manual_seed(SEED)
    sums, counts = torch.zeros(2, RESAMPLES, dtype=torch.double)
    chosen = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    for concept, seeds in enumerate(values):
        resample, _ = (chosen == concept).nonzero(as_tuple=True)  # once for each time that it was drawn
        trained = torch.randint(len(seeds), (len(resample), len(seeds)), generator=generator)
        for seed, pictures in enumerate(seeds):
            drawn, _ = (trained == seed).nonzero(as_tuple=True)
            n = pictures.numel()
            which = torch.randint(n, (len(drawn), n), generator=generator)
            sums.index_add_(0, resample[drawn], pictures.double()[which].sum(dim=1))
            counts.index_add_(0, resample[drawn], torch.full((len(drawn),), float(n), dtype=torch.double))
    return percentile_estimate(mean, sums / counts, n=count)
