"""Which base model a concept was learned on: its file's name, and a fingerprint that a LoRA on it does not change."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from comfy.model_patcher import ModelPatcher


def base_model_name(model: ModelPatcher) -> str:
    """Name of the file it was loaded from, where the loader kept it, else the host's name of its family."""
    _, arguments, *_ = model.cached_patcher_init or (None, ())
    files = [argument for argument in arguments if isinstance(argument, str | Path)]
    return Path(files[0]).name if files else type(model.model).__name__


def base_model_fingerprint(model: ModelPatcher) -> str:
    """SHA-256 in hex of the U-Net's biases and norms in fp16.

    They are a thousandth of the weights, tell fine-tunes apart, and are the same in fp32 and fp16 files.
    """
    digest = hashlib.sha256()
    for name, weight in model.model.diffusion_model.named_parameters():
        if weight.ndim == 1:
            digest.update(name.encode() + weight.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()
