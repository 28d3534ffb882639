"""What a finetune of the U-Net leaves: a patched MODEL, and files that say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core_ops.weights.low_rank import extract_lora
from ...core_ops.weights.trainable_weights import TrainableWeights
from ..files import safe_files, unet_files
from ..host.models.denoiser import prediction_of
from ..host.models.unet_weights import as_in_a_file, kohya_names, lora_state_dict, unet_weights, with_lora, with_weights


@dataclass(frozen=True)
class TrainedWeights:
    """Trained weights at one moment, on the CPU.

    unet: the changed weights by name, in fp32; None for adapters. lora: what core's LoRA nodes take, by kohya's keys;
    None where there is none. kept: share of the change that an extracted LoRA holds.
    """

    unet: Mapping[str, Tensor] | None
    lora: Mapping[str, Tensor] | None
    kept: float | None = None


@dataclass(frozen=True)
class NewFile:
    """card: what it says about itself. whole: a changed U-Net is written with all its weights, not only as a LoRA."""

    name: str
    card: Mapping[str, Any]
    overwrite: bool
    whole: bool = True


def collect(model: Any, trained: TrainableWeights) -> TrainedWeights:
    if trained.replaces_weights:
        return TrainedWeights({name: value.detach().cpu() for name, value in trained.values().items()}, None)
    return TrainedWeights(None, _adapter_tensors(model, trained))


def with_extracted_lora(
    model: Any, weights: TrainedWeights, rank: int, before_each: Callable[[int, int], object]
) -> TrainedWeights:
    """Adds the LoRA of this rank that is nearest to the change."""
    assert weights.unet is not None
    extracted = extract_lora(unet_weights(model), weights.unet, rank=rank, before_each=before_each)
    lora = lora_state_dict(model, extracted.pairs, extracted.differences)
    return replace(weights, lora=lora, kept=extracted.kept)


def save(model: Any, weights: TrainedWeights, new: NewFile) -> Path:
    """Writes what there is; returns the path of the U-Net, or of the LoRA where that is all."""
    paths: list[Path] = []
    if weights.unet is not None and new.whole:
        whole = as_in_a_file(model, {**unet_weights(model), **weights.unet})
        paths.append(
            unet_files.save_unet(
                new.name, whole, prediction=prediction_of(model), card=new.card, overwrite=new.overwrite
            )
        )
    if weights.lora is not None:
        paths.append(unet_files.save_adapter(new.name, weights.lora, card=new.card, overwrite=new.overwrite))
    return paths[0]


def read_weights(model: Any, unet: Path | None, lora: Path | None) -> TrainedWeights:
    """What `save` wrote, as far as it was asked for: of a U-Net those weights that the MODEL has not."""
    changed = None
    if unet is not None:
        tensors, own = safe_files.read_own(unet)[0], unet_weights(model)
        changed = {name: tensors[name] for name in own if not torch.equal(tensors[name], own[name])}
    return TrainedWeights(changed, None if lora is None else safe_files.read_own(lora)[0])


def patched_model(model: Any, weights: TrainedWeights) -> Any:
    """A clone of the MODEL that draws as the files do; the one given stays as it is."""
    if weights.unet is not None:
        return with_weights(model, weights.unet)
    assert weights.lora is not None
    return with_lora(model, weights.lora)


def _adapter_tensors(model: Any, trained: TrainableWeights) -> dict[str, Tensor]:
    """The adapters under kohya's names; a convolution's LoRA as two kernels, as all programs write it."""
    names = kohya_names(model)
    tensors: dict[str, Tensor] = {}
    for path, adapter in trained.adapters.items():
        kernel = model.model.diffusion_model.get_parameter(path).shape[2:]
        for key, value in adapter.state_dict().items():
            value = value.detach().cpu().clone()
            if kernel and key == "lora_up.weight":
                value = value.reshape(*value.shape, *(1 for _ in kernel))
            elif kernel and key == "lora_down.weight":
                value = value.reshape(value.shape[0], -1, *kernel)
            tensors[f"{names[path]}.{key}"] = value
    return tensors
