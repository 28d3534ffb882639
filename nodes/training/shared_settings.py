"""Inputs that both training nodes have, declared once; each node lists them in its own order, by `like`."""

from __future__ import annotations

from dataclasses import dataclass

from ...core_ops.pictures import Fit
from ..host.models.module_copy import PRECISIONS
from ..settings import choice, integer, number, switch, text


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
        ("crop", "pad"),
        help="crop: the centre square. pad: the whole picture, its border left out of the loss.",
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
    max_gradient_norm: float = number(
        0.0,
        low=0.0,
        high=1e6,
        step=0.1,
        help="Clip the gradient to this norm; 0 leaves it as it is, as in the paper.",
        advanced=True,
    )
