"""Between pictures and the U-Net's latents, through the host's VAE.

Leans on `comfy.sample.fix_empty_latent_channels` and the `downscale_ratio_spacial` of a LATENT; the same since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.sample
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from einops import rearrange
from torch import Tensor

from ....core_ops.pictures import Pictures, augment, latent_mask
from ....core_ops.training.training_data import CaptionedPictures, TrainingLatents
from .host_models import HostModels

OTHER_VAE = "use another VAE (for SDXL one that is made for fp16), or start ComfyUI with --fp32-vae"


def encode_pictures(host: HostModels, captioned: CaptionedPictures, copies: int, seed: int) -> TrainingLatents:
    """Latents of the pictures, encoded once; copies: augmented ones of each picture in its place, 0 for itself."""
    pictures = captioned.pictures
    if copies:
        pictures = augment(pictures, copies, torch.Generator().manual_seed(seed))
    return TrainingLatents(
        _encoded(host, pictures, seed, max(copies, 1)),
        captioned.captions,
        caption_of_latent=torch.tensor(captioned.caption_of_picture).repeat_interleave(max(copies, 1)),
        masks=None if pictures.masks is None else [latent_mask(mask).to(host.device) for mask in pictures.masks],
        caption_dropout=captioned.caption_dropout,
        repeats=[each for each in captioned.repeats for _ in range(max(copies, 1))],
    )


def validate_decoder(host: HostModels, latents: Tensor) -> None:
    """Raises ValueError for a VAE that makes NaN of these latents [I, 4, h, w]."""
    if not _decoded(host.model, host.vae, latents).isfinite().all():
        raise ValueError(f"vae: its pictures are NaN, so previews would be black; {OTHER_VAE}.")


def _encoded(host: HostModels, pictures: Pictures, seed: int, copies: int) -> list[Tensor]:
    """Latents [4, h, w] of each picture; those of one size go through the VAE together.

    copies: of each picture, one after another. Raises ValueError for a VAE that makes NaN of one.
    """
    sizes, latents = pictures.sizes, dict[int, Tensor]()
    for size in dict.fromkeys(sizes):
        places = [place for place, other in enumerate(sizes) if other == size]
        pixels = torch.stack([pictures.pixels[place] for place in places])
        latents |= zip(places, encode(host.model, host.vae, pixels, seed, places, copies), strict=True)
    return [latents[place] for place in range(len(sizes))]


def encode(
    model: ModelPatcher, vae: VAE, pixels: Tensor, seed: int, places: Sequence[int] | None = None, copies: int = 1
) -> Tensor:
    """Latents [I, 4, h, w] on the compute device, in the U-Net's scale, of pixels [I, 3, H, W].

    The host's VAE draws from its posterior with the global generator: seeded here, and left as it was. places: of the
    pictures among those that the user gave, each `copies` times. Raises ValueError for a VAE of another kind of model,
    or that makes NaN of a picture.
    """
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(seed)
        latents = vae.encode(rearrange(pixels, "B C H W -> B H W C"))
        latents = model.model.process_latent_in(latents)
    if latents.ndim != 4 or latents.shape[1] != model.model.latent_format.latent_channels:
        raise ValueError(
            f"vae: it makes latents of shape {tuple(latents.shape)}, the model needs "
            f"{model.model.latent_format.latent_channels} channels; connect the VAE that belongs to the model."
        )
    if numbers := _not_finite(latents):
        number = (places[numbers[0]] if places else numbers[0]) // copies + 1
        raise ValueError(f"vae: it makes NaN of picture {number}; {OTHER_VAE}.")
    with torch.inference_mode(False):  # copies, which autograd can work with
        return latents.to(model.load_device, torch.float32, copy=True)


def received(model: ModelPatcher, latent: Mapping[str, Any]) -> Tensor:
    """Latents [I, 4, h, w] of a host LATENT as `encode` gives them; empty ones of any kind of model are zeros.

    Raises ValueError when they belong to another kind of model.
    """
    samples = latent["samples"]
    whole = not samples.is_nested and samples.ndim == 4 and samples.numel() > 0
    if whole:
        samples = comfy.sample.fix_empty_latent_channels(model, samples, latent.get("downscale_ratio_spacial"))
    channels = model.model.latent_format.latent_channels
    if not whole or samples.shape[1] != channels:
        raise ValueError(
            f"latent: it has shape {tuple(samples.shape)}, this model needs [batch, {channels}, height, width]; "
            "make it with the model's own VAE, or with Empty Latent Image."
        )
    if _not_finite(samples):
        raise ValueError(f"latent: it holds NaN; {OTHER_VAE}, or look at the node that made it.")
    if torch.count_nonzero(samples):
        samples = model.model.process_latent_in(samples)
    with torch.inference_mode(False):
        return samples.to(model.load_device, torch.float32, copy=True)


def decode(model: ModelPatcher, vae: VAE, latents: Tensor) -> Tensor:
    """Pictures [B, H, W, 3] in 0…1 on the CPU; NaN is black."""
    return _decoded(model, vae, latents).nan_to_num(0).clamp(0, 1)


def _decoded(model: ModelPatcher, vae: VAE, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return vae.decode(model.model.process_latent_out(latents.detach().cpu())).float().cpu()


def _not_finite(latents: Tensor) -> list[int]:
    """Numbers of those [I, 4, h, w] that hold NaN or infinity."""
    return (~latents.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
