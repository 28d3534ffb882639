"""Pictures and their captions as what a recipe draws its batches from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...core_ops.pictures import Pictures, augment, latent_masks
from ...core_ops.prompts.token_rows import TokenRow
from ...core_ops.training.training_data import TrainingImages
from ..host.models import latents
from .training_inputs import HostModels


@dataclass(frozen=True)
class CaptionedPictures:
    """captions: distinct ones. caption_of_picture: which of them describes each picture."""

    pictures: Pictures
    captions: Sequence[TokenRow]
    caption_of_picture: Sequence[int]


def encode_images(host: HostModels, captioned: CaptionedPictures, copies: int, seed: int) -> TrainingImages:
    """Latents of the pictures, encoded once; copies: augmented ones of each picture in its place, 0 for itself."""
    pictures = captioned.pictures
    if copies:
        pictures = augment(pictures, copies, torch.Generator().manual_seed(seed))
    return TrainingImages(
        latents.encode(host.model, host.vae, pictures.pixels, seed),
        captioned.captions,
        torch.tensor(captioned.caption_of_picture).repeat_interleave(max(copies, 1)),
        None if pictures.masks is None else latent_masks(pictures.masks).to(host.model.load_device),
    )
