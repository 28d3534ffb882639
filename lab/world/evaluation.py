"""Measures the embedded checkpoint through ComfyUI's own sampler: python -m lab world evaluate --help.

Prints the share of pictures in which the judge sees what the prompt names, with 95% Wilson intervals; beside it the
share in the renderer's own pictures of these prompts, after the VAE; and saves a sheet of the first pictures. The
prompts combine what no picture of the training combined.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import astuple
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from .drawing.evaluation_prompts import evaluation_prompts
from .drawing.render import pixels
from .embedded import expand
from .networks.judge import Judge
from .sampler import HostSampler

SHEET_COLUMNS, SHEET_PICTURES, SHEET_SCALE = 8, 40, 2
Z_95 = 1.96


def interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share."""
    share, square = hits / count, Z_95**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    reach = Z_95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return centre - reach, centre + reach


def seconds_a_picture(sampler: HostSampler, prompt: str) -> float:
    """Drawn alone, as in a user's graph."""
    began = time.monotonic()
    sampler.sample(sampler.model, [sampler.encode(prompt)], [0])
    return time.monotonic() - began


def save_sheet(pictures: Tensor, file: Path) -> None:
    """pictures [B, 3, H, W] in 0…1, in rows of `SHEET_COLUMNS`."""
    rows = rearrange(pictures, "(r c) d h w -> (r h) (c w) d", c=SHEET_COLUMNS)
    sheet = Image.fromarray((rows * 255).round().byte().numpy())
    file.parent.mkdir(parents=True, exist_ok=True)
    size = sheet.width * SHEET_SCALE, sheet.height * SHEET_SCALE
    sheet.resize(size, Image.Resampling.NEAREST).save(file, quality=75)


def evaluate(given: argparse.Namespace) -> None:
    """given: pictures, seed, guidance, sheet and checkpoint, as of the command."""
    prompts = evaluation_prompts(given.pictures, given.seed)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = given.checkpoint or expand(Path(folder) / "mini_world.safetensors")
        sampler = HostSampler(checkpoint, Path(folder) / "comfyui")
        conditionings = (sampler.encode(prompt.text) for prompt in prompts)
        seeds = range(given.seed, given.seed + given.pictures)
        pictures = sampler.sample(sampler.model, conditionings, seeds, guidance=given.guidance)
        print(f"{seconds_a_picture(sampler, prompts[0].text):.2f} s for a picture alone")
        images, _ = pixels(prompt.scene for prompt in prompts)
        drawn = sampler.through_vae(torch.from_numpy(images).float() / 255)
    judge, wanted = Judge.load(), torch.tensor([astuple(prompt.labels) for prompt in prompts])
    ceiling = judge.hits(drawn, wanted)
    for name, (hits, count) in judge.hits(pictures, wanted).items():
        low, high = interval(hits, count)
        print(
            f"{name:<10}{hits / count:.3f}  [{low:.3f}, {high:.3f}]  of {count}; drawn {ceiling[name][0] / count:.3f}"
        )
    if len(pictures) >= SHEET_PICTURES:
        save_sheet(pictures[:SHEET_PICTURES], given.sheet)
        print("\n".join(prompt.text for prompt in prompts[:SHEET_PICTURES]))
