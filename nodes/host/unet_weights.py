"""A MODEL's U-Net weights, read with its patches, and written as patches of a clone."""

from __future__ import annotations

from collections.abc import Mapping

import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...core_ops.stored_weights import fetched
from .module_copy import HostWeights
from .unet_files import stored_dtype
from .unet_layout import unet_parameters

CPU = torch.device("cpu")


def unet_weights(model: ModelPatcher) -> dict[str, Tensor]:
    """Every weight of the U-Net with the MODEL's patches applied, on the CPU, as a file holds it. To be read only."""
    weights = HostWeights(model, "diffusion_model")
    weights.have_unloaded()
    own = unet_parameters(weights.module)
    return {name: fetched(weights.read(name, CPU), CPU, stored_dtype(own[name].dtype)) for name in own}


def with_weights(model: ModelPatcher, weights: Mapping[str, Tensor]) -> ModelPatcher:
    """A clone whose U-Net has these weights, rounded as a file holds them, whatever patches came before."""
    clone, own = model.clone(), unet_parameters(model.model.diffusion_model)
    rounded = {name: weight.to(stored_dtype(own[name].dtype)) for name, weight in weights.items()}
    clone.add_patches({f"diffusion_model.{name}": ("set", (weight,)) for name, weight in rounded.items()})
    return clone


def with_lora(model: ModelPatcher, lora: Mapping[str, Tensor]) -> ModelPatcher:
    """A clone with the LoRA on top of its patches, by the host's own loader."""
    clone, _ = comfy.sd.load_lora_for_models(model, None, dict(lora), 1.0, 0.0)
    assert clone is not None
    return clone
