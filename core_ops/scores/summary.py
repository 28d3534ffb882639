"""One score over many pictures: overall and per prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .bootstrap import Estimate, estimate_mean


@dataclass(frozen=True)
class ScoreSummary:
    """Intervals are over pictures. per_prompt: in the order in which the prompts first came."""

    overall: Estimate
    per_prompt: Mapping[str, Estimate]


def summarize(values: Tensor, prompts: Sequence[str], seed: int, resamples: int = 2000) -> ScoreSummary:
    """Values [G] of G pictures, with the prompt of each.

    Every interval is drawn from a generator of its own with this seed, so that none depends on which others are made.
    """

    def estimate(part: Tensor) -> Estimate:
        return estimate_mean(part, torch.Generator().manual_seed(seed), resamples)

    pictures_of = {
        prompt: [i for i, other in enumerate(prompts) if other == prompt] for prompt in dict.fromkeys(prompts)
    }
    per_prompt = {prompt: estimate(values[pictures]) for prompt, pictures in pictures_of.items()}
    return ScoreSummary(estimate(values), per_prompt)
