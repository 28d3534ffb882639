"""Inputs that both training nodes have, declared once; each node lists them in its own order, by `like`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core_ops.pictures import Fit
from ...core_ops.training.optimization import SCHEDULES, rate_factor
from ...core_ops.training.steady_loss import SteadyLoss, SteadyPlan
from ...core_ops.training.training_data import TrainingLatents
from ...core_ops.training.training_loop import LoopConfig, TrainingLoop
from ..host.models.module_copy import PRECISIONS
from ..settings import choice, integer, number, switch, text
from .kept_trainings import ANEW, GO_ON


@dataclass(frozen=True)
class SharedSettings:
    resolution: int = integer(
        0,
        low=0,
        high=2048,
        step=8,
        help=(
            "Side in pixels of the training pictures. 0: the model's own, 512 for SD 1.x, 512 or (v-prediction) 768 "
            "for SD 2.x, 1024 for SDXL."
        ),
    )
    seed: int = integer(
        0, low=0, high=2**63 - 1, help="Same seed, same result, on the same device.", control_after_generate=False
    )
    caption_template: str = text(
        "a photo of a {}",
        help="Caption of every picture without one of its own; {} is the concept. Paper: 'a photo of a {}'.",
        advanced=True,
    )
    fit: Fit = choice(
        ("crop", "keep", "pad"),
        help=(
            "crop: the centre square. keep: its proportions, at about the same number of pixels, in steps of 64. pad: "
            "the whole picture in a square, its border left out of the loss."
        ),
        advanced=True,
    )
    augmentation: int = integer(
        0,
        low=0,
        high=256,
        help="Changed copies of every picture (rotated, flipped, resized, shifted, after AttnDreamBooth); 0 for none.",
        advanced=True,
    )
    use_masks: bool = switch(True, help="Weight the loss by the masks, when connected.", advanced=True)
    precision: str = choice(
        PRECISIONS,
        help=(
            "Number format of the U-Net. auto: the loaded model's own where that is fp16, else bf16 where the hardware "
            "has it, else fp32. fp16 trains with loss scaling."
        ),
        advanced=True,
    )
    gradient_checkpointing: bool = switch(
        False,
        help="Gradient checkpointing: compute the U-Net's blocks twice to keep less memory; slower, same result.",
        advanced=True,
        shows={"true": ["checkpointing_levels"]},
    )
    checkpointing_levels: int = integer(
        0,
        low=0,
        high=8,
        help=(
            "With gradient_checkpointing: compute twice only in so many of the U-Net's resolutions, from the finest, "
            "which keeps most; 0 for all."
        ),
        advanced=True,
    )
    offload: float = number(
        0.0,
        low=0.0,
        high=1.0,
        step=0.1,
        help=(
            "Share of the frozen U-Net that stays in main memory, each layer fetched when it computes: less memory on "
            "the GPU, slower, same result."
        ),
        advanced=True,
    )
    gradient_accumulation: int = integer(
        1, low=1, high=256, help="Batches summed up before each optimizer step.", advanced=True
    )
    schedule: str = choice(
        SCHEDULES,
        help="How the learning rate falls over the training, by diffusers' names. constant: it does not, as published.",
        advanced=True,
    )
    warmup: float = number(
        0.0,
        low=0.0,
        high=0.9,
        step=0.01,
        help="Part of the steps in which the learning rate rises from 0 to its full value. Published: 0.",
        advanced=True,
    )
    weight_decay: float = number(
        0.01, low=0.0, high=1.0, step=0.0001, help="The optimizer's weight decay. Published: 0.01.", advanced=True
    )
    min_snr_gamma: float = number(
        0.0,
        low=0.0,
        high=100.0,
        step=0.5,
        help="Min-SNR weighting of the diffusion loss (Hang et al. 2023), 5 there: little noise counts less. 0: off.",
        advanced=True,
    )
    ema_decay: float = number(
        0.0,
        low=0.0,
        high=0.99999,
        step=0.001,
        help="Save and preview a moving average of what is trained, with this decay, such as 0.99: steadier. 0: off.",
        advanced=True,
    )
    max_gradient_norm: float = number(
        0.0,
        low=0.0,
        high=1e6,
        step=0.1,
        help="Clip the gradient to this norm; 0 leaves it as it is, as in the paper.",
        advanced=True,
    )
    preview_steps: int = integer(12, low=1, high=200, help="Sampling steps of a preview.", advanced=True)
    preview_guidance: float = number(
        3.0, low=0.0, high=30.0, step=0.5, help="Guidance (cfg) of a preview.", advanced=True
    )
    preview_size: int = integer(
        0, low=0, high=2048, step=8, help="Side of a preview's pictures in pixels; 0: as trained.", advanced=True
    )
    preview_negative: str = text("", help="What previews should not show; empty for nothing.", advanced=True)
    preview_prompts: str = text(
        "",
        help="Previews of your own: one prompt per line, each with {} once. Empty: four simple ones.",
        advanced=True,
        multiline=True,
    )
    hold_out: bool = switch(
        False,
        help=(
            "With five or more pictures: leave the last one out of the training, and measure the steady loss on it. "
            "Off, as published: all pictures are trained."
        ),
        advanced=True,
    )
    clear_steps: bool = switch(
        False, help="Remove steps and state saved on the way once the training is done.", advanced=True
    )
    start: str = choice(
        (GO_ON, ANEW),
        help=(
            "After Cancel or a crash: go on from what was kept under this name, or begin anew and replace it. A "
            "training that ended is loaded, unless overwrite is on."
        ),
        advanced=True,
        label="Start",
    )


def loop_config(settings: Any, fp16: bool, **more: Any) -> LoopConfig:
    """What a training node's settings say of its loop. fp16: the U-Net computes in it. more: further fields."""
    return LoopConfig(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        rate_factor=rate_factor(settings.schedule, settings.warmup, settings.steps),
        average_decay=settings.ema_decay,
        gradient_accumulation=settings.gradient_accumulation,
        max_gradient_norm=settings.max_gradient_norm,
        seed=settings.seed,
        fp16_scaling=fp16,
        **more,
    )


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
