"""What every file that a training leaves says about itself; `host.model_card` writes it as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..host.models.model_identity import architecture, base_model_fingerprint, base_model_name
from ..version import pack_version
from .training_inputs import HostModels


def training_card(host: HostModels, training: Mapping[str, Any]) -> dict[str, Any]:
    """The base model, and what the training adds: resolution, phrase, steps_done, settings, final_terms, …"""
    return {
        "architecture": architecture(host.model, host.clip),
        "base_model": base_model_name(host.model),
        "base_model_fingerprint": base_model_fingerprint(host.model),
        "pack_version": pack_version(),
        **training,
    }
