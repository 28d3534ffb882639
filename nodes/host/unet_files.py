"""What a U-Net finetune leaves: a LoRA in kohya's keys, or the whole U-Net, as core and other programs load them.

Leans on `comfy.lora.model_lora_keys_unet` and `comfy.utils.unet_to_diffusers`, the host's own tables of names, and on
the empty entries `v_pred` and `ztsnr` of a file; the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import comfy.lora
import comfy.model_base
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...core_ops.low_rank import LowRank
from . import model_card, safe_files, unfinished_files
from .denoiser import prediction_of
from .unet_layout import unet_parameters

Kind = Literal["loras", "diffusion_models"]
"""The folder in the host's output folder, which core's loaders of that kind look into."""

_WEIGHT, _BIAS = ".weight", ".bias"


def new_file_path(kind: Kind, name: str) -> Path:
    return Path(folder_paths.get_output_directory()) / kind / f"{name}.safetensors"


def validate_new_file(kind: Kind, name: str, overwrite: bool, parameter: str = "name") -> None:
    """Raises ValueError when the name is no plain file name, taken, or not to be written; parameter: its input."""
    safe_files.validate_name(parameter, name)
    path = new_file_path(kind, name)
    if (other := safe_files.taken(path)) and not overwrite:
        raise ValueError(f"{parameter}: {other} exists already; choose another name or switch overwrite on.")
    unfinished_files.validate_writable(parameter, path.parent)


def kohya_names(model: ModelPatcher) -> dict[str, str]:
    """What kohya's trainers call each module of this U-Net, by the host's path of its weight.

    They train SD 1.x and 2.x on diffusers' U-Net and SDXL on the original one, and name the modules after it. Core,
    A1111 and diffusers read both.
    """
    prefix = "diffusion_model."
    known = comfy.lora.model_lora_keys_unet(model.model, {})
    weights = [key for key in model.model.state_dict() if key.startswith(prefix) and key.endswith(_WEIGHT)]
    names = {key.removeprefix(prefix): _flat(key.removeprefix(prefix)) for key in weights}
    if not isinstance(model.model, comfy.model_base.SDXL):
        in_diffusers = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
        names |= {ours: _flat(theirs) for theirs, ours in in_diffusers.items() if ours in names}
    return {path: name for path, name in names.items() if known.get(name) == prefix + path}


def _flat(path: str) -> str:
    return "lora_unet_" + path.removesuffix(_WEIGHT).replace(".", "_")


def lora_state_dict(
    model: ModelPatcher, pairs: Mapping[str, LowRank], differences: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """A LORA_MODEL for core's nodes, and what `save_adapter` writes; keys of both are the U-Net's parameter names.

    differences: of biases and norms. diffusers refuses a file that has any; core adds them.
    """
    names = kohya_names(model)
    tensors: dict[str, Tensor] = {}
    for path, pair in pairs.items():
        name = names[path]
        tensors[f"{name}.lora_up.weight"] = pair.up
        tensors[f"{name}.lora_down.weight"] = pair.down
        tensors[f"{name}.alpha"] = torch.tensor(pair.alpha, dtype=pair.up.dtype)
    for path, difference in (differences or {}).items():
        name = names[path.removesuffix(_BIAS) + _WEIGHT if path.endswith(_BIAS) else path]
        tensors[f"{name}.diff_b" if path.endswith(_BIAS) else f"{name}.diff"] = difference
    return tensors


def save_adapter(name: str, tensors: Mapping[str, Tensor], card: Mapping[str, Any], overwrite: bool) -> Path:
    """Writes LoRA, LoHa, LoKr or OFT weights, keyed as in `lora_state_dict`, where core's Load LoRA lists them."""
    path = new_file_path("loras", name)
    safe_files.write(path, tensors, model_card.metadata("lora", name, tensors, card), overwrite)
    return path


def save_unet(
    name: str, model: ModelPatcher, tensors: Mapping[str, Tensor], card: Mapping[str, Any], overwrite: bool
) -> Path:
    """Writes a whole U-Net where core's Load Diffusion Model lists it, in the number format the base has in memory.

    tensors: every weight of `model.model.diffusion_model`; what else its state dict has (see `unet_layout`) is left
    out. Raises ValueError when one is missing, or there is one more.
    """
    base = unet_parameters(model.model.diffusion_model)
    if wrong := base.keys() ^ tensors.keys():
        raise ValueError(f"tensors: {', '.join(sorted(wrong)[:5])} are missing or not of this U-Net.")
    weights = {key: tensors[key].to(stored_dtype(weight.dtype)) for key, weight in base.items()} | _markers(model)
    path = new_file_path("diffusion_models", name)
    about = model_card.metadata("model", name, weights, card) | {"modelspec.prediction_type": prediction_of(model)}
    safe_files.write(path, weights, about, overwrite)
    return path


def stored_dtype(loaded: torch.dtype) -> torch.dtype:
    """Of a weight in the file; eight bits, which a loader may have rounded to, cannot hold what a finetune changes."""
    return loaded if loaded.itemsize > 1 else torch.float16


def _markers(model: ModelPatcher) -> dict[str, Tensor]:
    """The empty tensors by which the host knows v-prediction and zero terminal SNR, where its family reads them."""
    if not isinstance(model.model, comfy.model_base.SDXL) or prediction_of(model) == "epsilon":
        return {}
    zero_terminal = getattr(model.get_model_object("model_sampling"), "zsnr", False)
    return {name: torch.zeros(0) for name in (("v_pred", "ztsnr") if zero_terminal else ("v_pred",))}
