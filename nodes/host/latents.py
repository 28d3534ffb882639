"""Between pictures and the U-Net's latents, through the host's VAE."""

from __future__ import annotations

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from einops import rearrange
from torch import Tensor

from .module_copy import autograd_tensor


def encode(model: ModelPatcher, vae: VAE, pixels: Tensor, seed: int) -> Tensor:
    """Latents [I, 4, h, w] on the compute device, in the U-Net's scale, of pixels [I, 3, S, S].

    The host's VAE draws from its posterior with the global generator: seeded here, and left as it was.
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
    return autograd_tensor(latents).to(model.load_device, torch.float32)


def decode(model: ModelPatcher, vae: VAE, latents: Tensor) -> Tensor:
    """Pictures [B, S, S, 3] in 0…1 on the CPU."""
    with torch.inference_mode():
        return vae.decode(model.model.process_latent_out(latents.detach().cpu())).float().cpu().clamp(0, 1)
