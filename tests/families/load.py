"""The small families inside a running host, loaded the way core's checkpoint loader does."""

from __future__ import annotations

from typing import Any

import torch

from .build import FAMILIES, state_dict


def text_encoder_options(name: str) -> dict[str, dict[str, int]]:
    """What `te_model_options` must say for the host to build the family's small text encoders."""
    return {
        f"{encoder.host_name}_model_config": {
            "num_hidden_layers": encoder.layers,
            "intermediate_size": encoder.mlp_width,
        }
        for encoder in FAMILIES[name].text_encoders
    }


def load_family(name: str, seed: int = 0, embedding_directory: str | None = None) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE, made under inference mode like the outputs of a loader node."""
    from comfy.sd import load_state_dict_guess_config

    with torch.inference_mode():
        model, clip, vae, _ = load_state_dict_guess_config(
            state_dict(name, seed),
            embedding_directory=embedding_directory,
            te_model_options=text_encoder_options(name),
        )
    return model, clip, vae
