"""DDIM sampling (Song et al. 2021, η = 0) with classifier-free guidance, for previews while training."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .conditioning import Denoiser, TextConditioning


@dataclass(frozen=True)
class DDIMConfig:
    steps: int = 12
    guidance: float = 3.0


@torch.no_grad()
def ddim_sample(
    denoiser: Denoiser,
    text: TextConditioning,
    unconditional: TextConditioning,
    noise: Tensor,
    config: DDIMConfig,
) -> Tensor:
    """Latents [B, C, h, w] from noise of that shape; `text` holds one row per sample, `unconditional` one row."""
    schedule = denoiser.schedule
    batch = noise.shape[0]
    both = TextConditioning.concatenate([unconditional.expand(batch), text.expand(batch)])
    times = torch.linspace(schedule.timesteps - 1, 0, config.steps + 1).round().long().tolist()
    z = noise
    for now, following in pairwise(times):
        t = torch.full((2 * batch,), now, device=noise.device)
        free, guided = denoiser(torch.cat([z, z]), t, both).chunk(2)
        prediction = free + config.guidance * (guided - free)
        x0 = schedule.x0(z, prediction, t[:batch])
        epsilon = schedule.noise(z, prediction, t[:batch])
        z = schedule.add_noise(x0, epsilon, torch.full((batch,), following, device=noise.device))
    return z
