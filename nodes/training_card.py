"""What every file that a training leaves says about itself; `host.model_card` writes it as metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core_ops.noising import Prediction
from .host.model_identity import base_model_fingerprint, base_model_name
from .training_inputs import HostModels
from .version import pack_version

ARCHITECTURES: Mapping[tuple[str, ...], Mapping[Prediction, str]] = {
    ("clip_l",): {"epsilon": "stable-diffusion-v1", "v": "stable-diffusion-v1"},
    ("clip_h",): {"epsilon": "stable-diffusion-v2-512", "v": "stable-diffusion-v2-768-v"},
    ("clip_l", "clip_g"): {"epsilon": "stable-diffusion-xl-v1-base", "v": "stable-diffusion-xl-v1-base"},
    ("clip_g",): {"epsilon": "stable-diffusion-xl-v1-refiner", "v": "stable-diffusion-xl-v1-refiner"},
}
"""modelspec.architecture by text encoders and prediction."""


def training_card(
    host: HostModels, encoders: Sequence[str], prediction: Prediction, training: Mapping[str, Any]
) -> dict[str, Any]:
    """The base model, and what the training adds: resolution, phrase, steps_done, settings, final_terms, …"""
    return {
        "architecture": ARCHITECTURES[tuple(encoders)][prediction],
        "base_model": base_model_name(host.model),
        "base_model_fingerprint": base_model_fingerprint(host.model),
        "pack_version": pack_version(),
        **training,
    }
