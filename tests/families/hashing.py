"""Whether the host's models are bit for bit what they were."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


def weights_hash(models: tuple[Any, Any, Any]) -> str:
    """SHA-256 of every weight of a MODEL, CLIP and VAE."""
    model, clip, vae = models
    digest = hashlib.sha256()
    for module in (model.model, clip.cond_stage_model, vae.first_stage_model):
        for name, tensor in module.state_dict().items():
            copied = tensor.to("cpu", copy=True)  # an inference tensor cannot be viewed otherwise
            digest.update(name.encode() + copied.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
