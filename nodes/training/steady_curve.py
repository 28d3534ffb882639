"""The steady loss of a training inside a node; one that goes on measures what it measured before."""

from __future__ import annotations

from typing import Any

from ...core_ops.training.steady_loss import SteadyLoss, SteadyPlan
from ...core_ops.training.training_data import TrainingLatents
from ...core_ops.training.training_loop import TrainingLoop


def steady_plan(settings: Any) -> SteadyPlan:
    """Of a training with these settings from its first step on."""
    return SteadyPlan.within(settings.steps, settings.batch_size * settings.gradient_accumulation)


def steady_loss(loop: TrainingLoop, latents: TrainingLatents, settings: Any, samples: int | None) -> SteadyLoss:
    """On these latents. samples: of the training that goes on, whose settings may have been others; None for one that
    begins."""
    recipe: Any = loop.recipe
    return SteadyLoss(
        recipe.problem.denoiser.schedule,
        latents,
        recipe.diffusion_loss,
        samples or steady_plan(settings).samples,
        at_once=settings.batch_size,
    )
