"""A MODEL's U-Net weights, read with its patches, and written as patches of a clone."""

from __future__ import annotations

from collections.abc import Mapping

import comfy.model_management
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .module_copy import readable
from .unet_files import stored_dtype


def unet_weights(model: ModelPatcher) -> dict[str, Tensor]:
    """Every entry of the U-Net's state dict with the MODEL's patches applied, on the CPU. To be read only."""
    patcher = model.get_non_dynamic_delegate() if model.is_dynamic() else model
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    with torch.inference_mode(False):
        return {name: readable(value, patcher).cpu() for name, value in _state(patcher).items()}


def with_weights(model: ModelPatcher, weights: Mapping[str, Tensor]) -> ModelPatcher:
    """A clone whose U-Net has these weights, rounded as a file holds them, whatever patches came before."""
    clone, own = model.clone(), model.model.diffusion_model.state_dict()
    rounded = {name: weight.to(stored_dtype(own[name].dtype)) for name, weight in weights.items()}
    clone.add_patches({f"diffusion_model.{name}": ("set", (weight,)) for name, weight in rounded.items()})
    return clone


def with_lora(model: ModelPatcher, lora: Mapping[str, Tensor]) -> ModelPatcher:
    """A clone with the LoRA on top of its patches, by the host's own loader."""
    clone, _ = comfy.sd.load_lora_for_models(model, None, dict(lora), 1.0, 0.0)
    assert clone is not None
    return clone


def _state(patcher: ModelPatcher) -> dict[str, Tensor]:
    return patcher.model.diffusion_model.state_dict()
