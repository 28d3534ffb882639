"""Trains the U-Net to predict the noise in latents, given captions that the finished text encoder has read."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ..networks.unet import UNet
from .precision import autocast
from .schedule import Budget, learning_rate

PEAK_RATE, CAPTIONS_PER_STEP, TIMESTEPS, SNR_CAP = 4.5e-4, 10, 1000, 5.0
EMPTY_CAPTION_SHARE = 0.1
EMA_DECAY, EMA_EVERY = 0.997, 4
SAVE_EVERY_SECONDS = 150


@dataclass(frozen=True)
class LatentPictures:
    """latents: [captions, pictures, 4, h, w]. context: [captions + 1, 77, 768]; the last row is the empty caption's."""

    latents: Tensor
    context: Tensor


def cumulative_alphas() -> Tensor:
    """Stable Diffusion's ᾱ_t of its "scaled linear" schedule: [1000]."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(dim=0).float()


class UNetTraining:
    """The state of a run: it is saved now and then, and continues from its file."""

    def __init__(self, pictures: LatentPictures, budget: Budget, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self.pictures, self.budget, self.device = pictures, budget, device
        self.unet = UNet().to(device)
        self.average = copy.deepcopy(self.unet).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.unet.parameters(), PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.draw = torch.Generator().manual_seed(seed)
        self.alphas = cumulative_alphas()
        self.step = 0

    def run(self, file: Path) -> UNet:
        """Trains until the budget is spent. `file` holds the newest state; returns the averaged weights."""
        smooth, last_saved = None, self.budget.seconds()
        while (progress := self.budget.progress(self.step)) < 1:
            loss = self._train_step(progress)
            smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
            if self.step % 50 == 0:
                self.budget.report("unet", self.step, smooth)
            if self.budget.seconds() - last_saved > SAVE_EVERY_SECONDS:
                self.save(file)
                last_saved = self.budget.seconds()
        self.save(file)
        return self.average.eval()

    def _train_step(self, progress: float) -> float:
        z_t, t, noise, context = self._batch()
        with autocast(self.device):
            predicted = self.unet(z_t.to(self.device), t.to(self.device), context.to(self.device))
        ratio = self.alphas[t] / (1 - self.alphas[t])
        weight = (SNR_CAP / ratio).clamp(max=1).to(self.device)  # min-SNR-γ for ε-prediction
        squares = (predicted.float() - noise.to(self.device)).square().mean(dim=(1, 2, 3))
        loss = (weight * squares).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.param_groups[0]["lr"] = learning_rate(PEAK_RATE, self.step, progress)
        self.optimizer.step()
        self.step += 1
        if self.step % EMA_EVERY == 0:
            self._update_average()
        return loss.item()

    def _batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Captions drawn at random, all pictures of each; timesteps spread evenly over the schedule."""
        rows = torch.randint(len(self.pictures.latents), (CAPTIONS_PER_STEP,), generator=self.draw)
        latents = rearrange(self.pictures.latents[rows], "c p d h w -> (c p) d h w").float()
        noise = torch.randn(latents.shape, generator=self.draw)
        count = len(latents)
        strata = (torch.arange(count) + torch.rand(count, generator=self.draw)) * TIMESTEPS / count
        t = strata[torch.randperm(count, generator=self.draw)].long().clamp(max=TIMESTEPS - 1)
        signal = self.alphas[t][:, None, None, None]
        z_t = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        emptied = torch.rand(CAPTIONS_PER_STEP, generator=self.draw) < EMPTY_CAPTION_SHARE
        context = self.pictures.context[torch.where(emptied, len(self.pictures.context) - 1, rows)].float()
        return z_t, t, noise, context

    @torch.no_grad()
    def _update_average(self) -> None:
        """Short at first, so that the random beginning is forgotten."""
        updates = self.step // EMA_EVERY
        decay = min(EMA_DECAY, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.unet.parameters()), 1 - decay)

    def save(self, file: Path) -> None:
        state = {
            "unet": self.unet.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draw": self.draw.get_state(),
            "step": self.step,
            "seconds": self.budget.seconds(),
        }
        partial = file.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(file)

    def resume(self, file: Path) -> None:
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.unet.load_state_dict(state["unet"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.draw.set_state(state["draw"].cpu())
        self.step, self.budget.spent = state["step"], state["seconds"]
