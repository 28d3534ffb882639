"""Trains the judge on drawn pictures: attributes by their labels, identity by telling things apart.

It measures what the U-Net makes of combinations that it never saw, so the judge has to know them all, and as blurred as
the VAE gives them back.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..drawing import dataset
from ..drawing.dataset import Dataset
from ..drawing.render import STYLES
from ..networks.judge import ATTRIBUTES, Judge, coloured
from ..networks.vae import TinyVAE
from .precision import autocast
from .schedule import Budget, learning_rate
from .vae_training import reconstruct

PEAK_RATE, CAPTIONS_PER_STEP, TEMPERATURE = 1e-3, 32, 0.1
UNSEEN = -100


def judged_pictures(captions: int, seed: int, vae: TinyVAE, device: torch.device) -> Dataset:
    """Of every combination, two of a caption's four as the VAE gives them back."""
    data = dataset.draw(captions, seed, processes=os.cpu_count() or 1, every=True)
    blurred = data.images[:, ::2]
    data.images[:, ::2] = reconstruct(vae, blurred.reshape(-1, *blurred.shape[2:]), device).reshape(blurred.shape)
    return data


def train_judge(data: Dataset, budget: Budget, device: torch.device, seed: int) -> Judge:
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    judge = Judge().to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), PEAK_RATE)
    step = 0
    while (progress := budget.progress(step)) < 1:
        images, masks, labels = _pairs(data, draw, device)
        with autocast(device):
            loss = _attribute_loss(judge, images.flatten(0, 1), labels) + _identity_loss(judge, images, masks, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.param_groups[0]["lr"] = learning_rate(PEAK_RATE, step, progress)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            budget.report("judge", step, loss.item())
    return judge.eval()


def _pairs(data: Dataset, draw: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Two pictures of each caption: images [C, 2, 3, H, W] in 0…1, a bit disturbed as a model's are; masks; labels."""
    rows = torch.randperm(len(data.images), generator=draw)[:CAPTIONS_PER_STEP].sort().values.numpy()
    two = torch.randperm(data.images.shape[1], generator=draw)[:2].numpy()
    images = torch.from_numpy(data.images[rows][:, two]).permute(0, 1, 4, 2, 3).float() / 255
    small = F.interpolate(images.flatten(0, 1), scale_factor=0.5, mode="area")
    blurred = F.interpolate(small, scale_factor=2, mode="bilinear").view_as(images)
    blend = torch.rand(len(rows), 2, 1, 1, 1, generator=draw)
    images = torch.lerp(images, blurred, blend) + 0.03 * torch.randn(images.shape, generator=draw)
    masks = torch.from_numpy(data.masks[rows][:, two]).float() / 255
    return images.to(device), masks.to(device), torch.from_numpy(np.asarray(data.labels[rows])).to(device)


def _attribute_loss(judge: Judge, images: Tensor, labels: Tensor) -> Tensor:
    """Nothing is to be learned about the colour of a pencil sketch."""
    doubled = labels.repeat_interleave(2, dim=0)
    doubled[~coloured(doubled), list(ATTRIBUTES).index("colour")] = UNSEEN
    logits = judge.logits(images)
    losses = (
        F.cross_entropy(logits[name].float(), doubled[:, i], ignore_index=UNSEEN) for i, name in enumerate(ATTRIBUTES)
    )
    return sum(losses)


def _identity_loss(judge: Judge, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """Each photo finds its partner among all others (InfoNCE)."""
    photo = labels[:, -1] == STYLES.index("photo")
    first, second = (judge.identity(images[photo][:, i], masks[photo][:, i]).float() for i in (0, 1))
    return F.cross_entropy(first @ second.T / TEMPERATURE, torch.arange(len(first), device=first.device))
