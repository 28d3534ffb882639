"""A MODEL's U-Net weights, read with its patches, written as patches of a clone, and named as in files.

Leans on `comfy.lora.model_lora_keys_unet` and `comfy.utils.unet_to_diffusers`, the host's own tables of names, and on
the empty entries `v_pred` and `ztsnr` of a file; the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.lora
import comfy.model_base
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....core_ops.weights.low_rank import LowRank
from ....core_ops.weights.stored_weights import fetched, is_quantised
from .denoiser import prediction_of
from .lora_loading import rotate_exactly
from .module_copy import HostWeights
from .unet_layout import unet_parameters

CPU = torch.device("cpu")
_WEIGHT, _BIAS = ".weight", ".bias"


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
    rotate_exactly(clone, model)
    return clone


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


def as_in_a_file(model: ModelPatcher, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole U-Net as a file holds it, in the number format the base has in memory, and with the host's markers.

    tensors: every weight of `model.model.diffusion_model`; what else its state dict has (see `unet_layout`) is left
    out. Raises ValueError when one is missing, or there is one more.
    """
    base = unet_parameters(model.model.diffusion_model)
    if wrong := base.keys() ^ tensors.keys():
        raise ValueError(f"tensors: {', '.join(sorted(wrong)[:5])} are missing or not of this U-Net.")
    return {key: tensors[key].to(stored_dtype(weight.dtype)) for key, weight in base.items()} | _markers(model)


def stored_dtype(loaded: torch.dtype) -> torch.dtype:
    """Of a weight in the file; eight bits, which a loader may have rounded to, cannot hold what a finetune changes."""
    return loaded if loaded.itemsize > 1 else torch.float16


def file_forgets_sampling(model: ModelPatcher) -> bool:
    """Whether core's loader, given the MODEL's file, would sample otherwise than the MODEL does."""
    sampling = model.get_model_object("model_sampling")
    if isinstance(model.model, comfy.model_base.SDXL):  # whose markers say the rest
        return prediction_of(model) == "epsilon" and getattr(sampling, "zsnr", False)
    own: Any = comfy.model_base.model_sampling(model.model.model_config, model.model.model_type)
    return type(sampling).__bases__ != type(own).__bases__ or not torch.equal(sampling.sigmas.cpu(), own.sigmas.cpu())


def rounds_weights(model: ModelPatcher) -> bool:
    """Whether the host keeps weights of it in eight bits, to which it rounds what is written over them."""
    return any(
        weight.dtype.itemsize == 1 or is_quantised(weight)
        for weight in unet_parameters(model.model.diffusion_model).values()
    )


def _markers(model: ModelPatcher) -> dict[str, Tensor]:
    """The empty tensors by which the host knows v-prediction and zero terminal SNR, where its family reads them."""
    if not isinstance(model.model, comfy.model_base.SDXL) or prediction_of(model) == "epsilon":
        return {}
    zero_terminal = getattr(model.get_model_object("model_sampling"), "zsnr", False)
    return {name: torch.zeros(0) for name in (("v_pred", "ztsnr") if zero_terminal else ("v_pred",))}
