"""The diffusion loss on the same noised pictures again and again: a curve that shows what is learned.

A training's own loss is of other pictures, noise levels and noise in every step, which hides how it changes.

Example::

    plan = SteadyPlan.within(steps=300, batch_size=6)
    steady = SteadyLoss(denoiser.schedule, latents, recipe.diffusion_loss, plan.samples)
    for report in TrainingLoop(recipe, config):
        if report.step % plan.every == 0:
            print(report.step, steady())
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion_process import NoiseSchedule
from .training_data import NoisedBatch, TrainingLatents, draw_noise, noised_batch

PART_OF_TRAINING, PASSES = 0.045, 2
"""What measuring may cost of a training, and how many forward passes a step's forward and backward take the time of:
the backward pass of a frozen U-Net is short.
"""
FEWEST_POINTS, MOST_POINTS = 20, 40
FEWEST_SAMPLES, MOST_SAMPLES = 4, 16


@dataclass(frozen=True)
class SteadyPlan:
    """every: steps between two measurements. samples: noised pictures in each."""

    every: int
    samples: int

    @classmethod
    def within(cls, steps: int, batch_size: int) -> SteadyPlan:
        """As many as cost about `PART_OF_TRAINING`; batch_size: noised pictures per step."""
        passes = PART_OF_TRAINING * PASSES * steps * batch_size
        samples = min(max(int(passes / FEWEST_POINTS), FEWEST_SAMPLES), MOST_SAMPLES)
        points = min(max(int(passes / samples), 1), MOST_POINTS)
        return cls(math.ceil(steps / points), samples)


class SteadyLoss:
    """Call it for L_diffusion as it is now: pictures in turn, t evenly over the schedule, ε of a generator of its own.

    loss_of: L_diffusion of a batch. samples: as many; another number measures others. at_once: that go through the
    denoiser together.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        data: TrainingLatents,
        loss_of: Callable[[NoisedBatch], Tensor],
        samples: int,
        at_once: int = 1,
    ) -> None:
        self._loss_of, self.samples = loss_of, samples
        random = torch.Generator().manual_seed(0)
        chosen = torch.linspace(0, len(data.latents) - 1, samples).round().long()
        t = ((torch.arange(samples) + 0.5) * schedule.timesteps / samples).long()
        t = t[torch.randperm(samples, generator=random)]  # or the first picture would have the least noise
        noise = draw_noise(data, chosen, random)
        self._batches = [
            noised_batch(data, schedule, chosen[part], t[part], noise[part])
            for part in (slice(start, start + at_once) for start in range(0, samples, at_once))
        ]

    @torch.no_grad()
    def __call__(self) -> float:
        losses = [self._loss_of(batch) * batch.samples for batch in self._batches]
        return float(torch.stack(losses).sum()) / self.samples
