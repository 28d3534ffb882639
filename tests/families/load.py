"""The small families inside a running host, loaded the way core's checkpoint loader does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .build import FAMILIES, Family, state_dict


def text_encoder_options(family: Family) -> dict[str, dict[str, int]]:
    """What `te_model_options` must say for the host to build the family's text encoders."""
    return {
        f"{encoder.host_name}_model_config": {
            "num_hidden_layers": encoder.layers,
            "intermediate_size": encoder.mlp_width,
        }
        for encoder in family.text_encoders
    }


def load_family(name: str, seed: int = 0, embedding_directory: str | None = None) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE, made under inference mode like the outputs of a loader node."""
    return load_checkpoint(FAMILIES[name], state_dict(name, seed), embedding_directory)


def load_checkpoint(
    family: Family, weights: dict[str, Tensor], embedding_directory: str | None = None
) -> tuple[Any, Any, Any]:
    """`load_family` for a family of any size; takes the weights out of the dictionary."""
    from comfy.sd import load_state_dict_guess_config

    with torch.inference_mode():
        model, clip, vae, _ = load_state_dict_guess_config(
            weights, embedding_directory=embedding_directory, te_model_options=text_encoder_options(family)
        )
    return model, clip, vae


def load_file(
    family: Family, path: Path, embedding_directory: str | None = None, **text_encoder: Any
) -> tuple[Any, Any, Any]:
    """A checkpoint's file as core's loader does it: these can be loaded again, as dynamic VRAM has it.

    text_encoder: more of its options, as core's nodes give them: load_device and offload_device.
    """
    from comfy.sd import load_checkpoint_guess_config

    options = text_encoder_options(family) | text_encoder
    with torch.inference_mode():
        model, clip, vae, *_ = load_checkpoint_guess_config(
            str(path), embedding_directory=embedding_directory, te_model_options=options
        )
    return model, clip, vae
