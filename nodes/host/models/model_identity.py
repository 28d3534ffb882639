"""Which base model a concept was learned on: its file's name, and a fingerprint that a LoRA on it does not change.

Leans on `ModelPatcher.cached_patcher_init`, the loader and its arguments, and on its `backup`; the same since 0.28.0.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP

from .denoiser import prediction_of
from .text_encoder import encoder_names

ARCHITECTURES = {
    ("clip_l",): {"epsilon": "stable-diffusion-v1", "v": "stable-diffusion-v1"},
    ("clip_h",): {"epsilon": "stable-diffusion-v2-512", "v": "stable-diffusion-v2-768-v"},
    ("clip_l", "clip_g"): {"epsilon": "stable-diffusion-xl-v1-base", "v": "stable-diffusion-xl-v1-base"},
    ("clip_g",): {"epsilon": "stable-diffusion-xl-v1-refiner", "v": "stable-diffusion-xl-v1-refiner"},
}
"""modelspec.architecture by text encoders and prediction."""


def architecture(model: ModelPatcher, clip: CLIP) -> str:
    """Raises ValueError when the two are not a Stable Diffusion 1.x, 2.x or XL model that predicts ε or v."""
    return ARCHITECTURES[encoder_names(clip)][prediction_of(model)]


def base_model_name(model: ModelPatcher) -> str:
    """Name of the file it was loaded from, where the loader kept it, else the host's name of its family."""
    _, arguments, *_ = model.cached_patcher_init or (None, ())
    files = [argument for argument in arguments if isinstance(argument, str | Path)]
    return Path(files[0]).name if files else type(model.model).__name__


def base_model_fingerprint(model: ModelPatcher) -> str:
    """SHA-256 in hex of the U-Net's biases and norms in fp16.

    They are a thousandth of the weights, tell fine-tunes apart, and are the same in fp32 and fp16 files. Of a weight
    that the host has patched in place, its backup counts.
    """
    digest = hashlib.sha256()
    for name, weight in model.model.diffusion_model.named_parameters():
        if weight.ndim == 1:
            backup = model.backup.get(f"diffusion_model.{name}")
            own = weight if backup is None else backup.weight
            digest.update(name.encode() + own.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()
