"""Forward diffusion, and the conversions between ε, v and x0, which are inverses of each other.

Ho et al. 2020 (ε), Salimans & Ho 2022 (v). Latents are z [B, C, h, w], timesteps t [B] count from 0 to T-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v"]


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

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1−ᾱ_t), each [B, 1, 1, 1]."""
        alpha = self.alphas_cumprod.to(t.device)[t].reshape(-1, 1, 1, 1)
        return torch.sqrt(alpha), torch.sqrt(1 - alpha)
