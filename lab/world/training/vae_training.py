"""Trains the VAE on the pictures: crops first, then whole pictures; then the decoder alone on clean latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..drawing.canvas import SIDE
from ..networks.vae import TinyVAE
from .precision import autocast
from .schedule import Budget, learning_rate

PEAK_RATE, CONTINUED_RATE = 1e-3, 5e-4
DECODER_RATE = 6e-4
CROP, CROPS_PER_STEP, PICTURES_PER_STEP = 32, 32, 12
WHOLE_FROM, DECODER_ONLY_FROM = 0.55, 0.75
LATENT_NOISE = 0.1


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 + 3·L2 + 0.3·L1 of the picture's differences: sharp edges without speckles. Inputs [B, 3, H, W] in 0…1."""
    edges = sum(F.l1_loss(output.diff(dim=axis), target.diff(dim=axis)) for axis in (2, 3))
    return F.l1_loss(output, target) + 3 * F.mse_loss(output, target) + 0.3 * edges


def train_vae(
    images: np.ndarray, budget: Budget, device: torch.device, seed: int, before: TinyVAE | None = None
) -> TinyVAE:
    """images: uint8 [N, side, side, 3]. before: one to train further, on whole pictures from the first step."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    vae = (before or TinyVAE()).to(device, memory_format=torch.channels_last).train()
    whole_from, peak = (0.0, CONTINUED_RATE) if before else (WHOLE_FROM, PEAK_RATE)
    optimizer = _optimizer(vae, peak)
    step = 0
    while (progress := budget.progress(step)) < 1:
        if progress >= DECODER_ONLY_FROM:
            vae.taesd_encoder.requires_grad_(False)
            vae.whitening.eval()
        target = _batch(images, progress >= whole_from, draw, device)
        with autocast(device):
            latents = vae.encode(target)
            noise = LATENT_NOISE if progress < DECODER_ONLY_FROM else LATENT_NOISE / 2
            output = vae.decode(latents + noise * torch.randn(latents.shape, generator=draw).to(device))
        loss = reconstruction_loss(output.float(), target)
        _descend(optimizer, loss, learning_rate(peak, step, progress))
        step += 1
        if step % 50 == 0:
            budget.report("vae", step, loss.item())
    return vae.eval()


def refine_decoder(
    vae: TinyVAE, images: np.ndarray, latents: Tensor, budget: Budget, device: torch.device, seed: int
) -> None:
    """Trains the decoder further on latents [N, 4, h, w] that no longer change, which a U-Net may rely on."""
    draw = torch.Generator().manual_seed(seed)
    vae.requires_grad_(False).taesd_decoder.requires_grad_(True)
    vae.to(device, memory_format=torch.channels_last)
    optimizer = _optimizer(vae.taesd_decoder, DECODER_RATE)
    step = 0
    while (progress := budget.progress(step)) < 1:
        rows = torch.randint(len(images), (PICTURES_PER_STEP,), generator=draw).sort().values
        target = torch.from_numpy(images[rows.numpy()]).permute(0, 3, 1, 2).to(device, torch.float32) / 255
        clean = latents[rows].float()
        noisy = clean + LATENT_NOISE / 2 * torch.randn(clean.shape, generator=draw)
        with autocast(device):
            output = vae.decode(noisy.to(device))
        loss = reconstruction_loss(output.float(), target)
        _descend(optimizer, loss, learning_rate(DECODER_RATE, step, progress))
        step += 1
        if step % 50 == 0:
            budget.report("decoder", step, loss.item())
    vae.eval()


def _optimizer(module: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), rate, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    (group,) = optimizer.param_groups
    group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()


def _batch(images: np.ndarray, whole: bool, draw: torch.Generator, device: torch.device) -> Tensor:
    """Whole pictures, or more crops."""
    count = PICTURES_PER_STEP if whole else CROPS_PER_STEP
    rows = torch.randint(len(images), (count,), generator=draw).sort().values.numpy()
    pictures = torch.from_numpy(images[rows]).permute(0, 3, 1, 2)
    if not whole:
        top, left = (8 * torch.randint((SIDE - CROP) // 8 + 1, (2,), generator=draw)).tolist()
        pictures = pictures[:, :, top : top + CROP, left : left + CROP]
    return pictures.to(device, torch.float32, memory_format=torch.channels_last) / 255


@torch.no_grad()
def encode_pictures(vae: TinyVAE, images: np.ndarray, device: torch.device, batch: int = 64) -> Tensor:
    """Latents [N, 4, side/8, side/8] of uint8 pictures [N, side, side, 3], on the CPU."""
    rows = []
    for start in range(0, len(images), batch):
        pictures = torch.from_numpy(np.array(images[start : start + batch])).permute(0, 3, 1, 2)
        with autocast(device):
            rows.append(vae.encode(pictures.to(device, torch.float32) / 255).float().cpu())
    return torch.cat(rows)


@torch.no_grad()
def reconstruct(vae: TinyVAE, images: np.ndarray, device: torch.device, batch: int = 64) -> np.ndarray:
    """uint8 pictures [N, side, side, 3], encoded and decoded."""
    parts = []
    for latents in encode_pictures(vae, images, device, batch).split(batch):
        with autocast(device):
            output = vae.decode(latents.to(device))
        parts.append((output.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def psnr(vae: TinyVAE, images: np.ndarray, device: torch.device) -> float:
    """Mean over pictures of the peak signal-to-noise ratio after encoding and decoding, in dB."""
    target = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).to(device, torch.float32) / 255
    output = vae.decode(vae.encode(target)).clamp(0, 1)
    return (-10 * (output - target).square().mean(dim=(1, 2, 3)).log10()).mean().item()
