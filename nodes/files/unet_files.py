"""What a U-Net finetune leaves: a LoRA in kohya's keys, or the whole U-Net, as core and other programs load them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import folder_paths
from torch import Tensor

from . import file_metadata, safe_files

Kind = Literal["loras", "diffusion_models"]
"""The folder in the host's output folder, which core's loaders of that kind look into."""


def new_file_path(kind: Kind, name: str) -> Path:
    """Where a LoRA or U-Net of this name goes."""
    return Path(folder_paths.get_output_directory()) / kind / f"{name}.safetensors"


def lora_names() -> list[str]:
    """Every LoRA file that can be read, as the host lists them."""
    return [name for name in folder_paths.get_filename_list("loras") if name.lower().endswith(".safetensors")]


def lora_path(name: str) -> Path:
    """Of one of `lora_names`."""
    return Path(folder_paths.get_full_path_or_raise("loras", name))


def validate_new_file(kind: Kind, name: str, overwrite: bool, parameter: str = "name") -> None:
    """Raises ValueError when the name is no plain file name, taken, or not to be written; parameter: its input."""
    safe_files.validate_name(parameter, name)
    path = new_file_path(kind, name)
    if (other := safe_files.taken(path)) and not overwrite:
        raise ValueError(f"{parameter}: {other} exists already; choose another name or switch overwrite on.")
    safe_files.validate_writable(parameter, path.parent)


def save_adapter(name: str, tensors: Mapping[str, Tensor], card: Mapping[str, Any], overwrite: bool) -> Path:
    """Writes an adapter's weights, keyed as in `lora_state_dict`, where core's Load LoRA lists them."""
    path = new_file_path("loras", name)
    metadata = file_metadata.metadata("lora", name=path.stem, tensors=tensors, card=card)
    safe_files.write(path, tensors, metadata=metadata, overwrite=overwrite)
    return path


def save_unet(
    name: str, weights: Mapping[str, Tensor], prediction: str, card: Mapping[str, Any], overwrite: bool
) -> Path:
    """Writes a whole U-Net, as `unet_weights.as_in_a_file` gives it, where core's Load Diffusion Model lists it.

    prediction: "epsilon" or "v".
    """
    path = new_file_path("diffusion_models", name)
    metadata = file_metadata.metadata("model", name=path.stem, tensors=weights, card=card)
    metadata["modelspec.prediction_type"] = prediction
    safe_files.write(path, weights, metadata=metadata, overwrite=overwrite)
    return path
