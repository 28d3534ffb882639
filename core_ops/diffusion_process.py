"""Noise into latents and out of them: forward diffusion, what a model predicts of it, and sampling for previews.

Ho et al. 2020 (ε), Salimans & Ho 2022 (v), Song et al. 2021 (DDIM). Latents are z [B, C, h, w], timesteps t [B] count
from 0 to T-1. The conversions between ε, v and x0 are inverses of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import torch
from torch import Tensor

from .conditioning import TextConditioning

Prediction = Literal["epsilon", "v"]
AttentionStatistic = Callable[[Tensor], Tensor]
"""Reduces one layer's attention probabilities [B, H, P, N], each sample by itself, to what a loss needs, such as
`token_means`."""


@dataclass(frozen=True)
class NoiseSchedule:
    """ᾱ_t of a discrete schedule, [T] in fp32, and what the model predicts."""

    alphas_cumprod: Tensor
    prediction: Prediction

    @property
    def timesteps(self) -> int:
        return self.alphas_cumprod.shape[0]

    def add_noise(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """z_t = √ᾱ_t z + √(1−ᾱ_t) ε."""
        signal, sigma = self._rates(t)
        return signal * z + sigma * noise

    def target(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the model should predict: ε, or v = √ᾱ_t ε − √(1−ᾱ_t) z."""
        if self.prediction == "epsilon":
            return noise
        signal, sigma = self._rates(t)
        return signal * noise - sigma * z

    def x0(self, z_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """The clean latents that a prediction at z_t implies."""
        signal, sigma = self._rates(t)
        if self.prediction == "epsilon":
            return (z_t - sigma * prediction) / signal
        return signal * z_t - sigma * prediction

    def noise(self, z_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """The ε that a prediction at z_t implies."""
        if self.prediction == "epsilon":
            return prediction
        signal, sigma = self._rates(t)
        return sigma * z_t + signal * prediction

    def min_snr(self, t: Tensor, gamma: float) -> Tensor:
        """Min-SNR-γ weight of a sample's loss, [B] (Hang et al. 2023): min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR+1) for
        v, where SNR = ᾱ_t/(1−ᾱ_t)."""
        alpha = self.alphas_cumprod.to(t.device)[t]
        snr = alpha / (1 - alpha)
        if self.prediction == "epsilon":
            return torch.where(snr > gamma, gamma / snr, torch.ones_like(snr))
        return snr.clamp(max=gamma) / (snr + 1)

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1−ᾱ_t), each [B, 1, 1, 1]."""
        alpha = self.alphas_cumprod.to(t.device)[t].reshape(-1, 1, 1, 1)
        return torch.sqrt(alpha), torch.sqrt(1 - alpha)


class Denoiser(Protocol):
    """A differentiable U-Net that predicts in its own space (ε or v)."""

    schedule: NoiseSchedule

    def __call__(self, z_t: Tensor, t: Tensor, text: TextConditioning) -> Tensor:
        """Prediction [B, C, h, w] for noised latents [B, C, h, w] at integer timesteps [B]."""
        ...

    def with_attention(
        self, z_t: Tensor, t: Tensor, text: TextConditioning, statistic: AttentionStatistic
    ) -> tuple[Tensor, list[Tensor]]:
        """The prediction, and `statistic` of every cross-attention layer in forward order."""
        ...

    def with_queries(self, z_t: Tensor, t: Tensor, text: TextConditioning) -> tuple[Tensor, list[Tensor]]:
        """The prediction, and what the pixels ask for in every cross-attention layer, [B, ...] each and detached."""
        ...

    def attention_of(
        self, queries: Sequence[Tensor], t: Tensor, text: TextConditioning, statistic: AttentionStatistic
    ) -> list[Tensor]:
        """`statistic` of every layer, were `text` asked by the queries of a pass with another text.

        Only the keys depend on `text`, so that no forward pass is needed.
        """
        ...


@dataclass(frozen=True)
class DDIMConfig:
    steps: int = 12
    guidance: float = 3.0


TextAt = Callable[[Tensor], TextConditioning]
"""Text at timesteps [B]."""


@torch.no_grad()
def ddim_sample(
    denoiser: Denoiser,
    text: TextConditioning | TextAt,
    unconditional: TextConditioning,
    noise: Tensor,
    config: DDIMConfig,
) -> Tensor:
    """Latents [B, C, h, w] from noise of that shape; `text` holds one row per sample, `unconditional` one row."""
    schedule = denoiser.schedule
    batch = noise.shape[0]
    times = torch.linspace(schedule.timesteps - 1, 0, config.steps + 1).round().long().tolist()
    z = noise
    for now, following in pairwise(times):
        t = torch.full((2 * batch,), now, device=noise.device)
        conditional = text if isinstance(text, TextConditioning) else text(t[:batch])
        both = TextConditioning.concatenate([unconditional.expand(batch), conditional.expand(batch)])
        free, guided = denoiser(torch.cat([z, z]), t, both).chunk(2)
        prediction = free + config.guidance * (guided - free)
        x0 = schedule.x0(z, prediction, t[:batch])
        epsilon = schedule.noise(z, prediction, t[:batch])
        z = schedule.add_noise(x0, epsilon, torch.full((batch,), following, device=noise.device))
    return z
