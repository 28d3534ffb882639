"""What a finetune of the U-Net leaves: a patched MODEL, and files that say the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core_ops.low_rank import extract_lora
from ..core_ops.trainable_weights import TrainableWeights
from .finetune_settings import FinetuneSettings
from .host import unet_files
from .host.unet_weights import with_lora, with_weights


@dataclass(frozen=True)
class TrainedWeights:
    """Trained weights at one moment, on the CPU.

    unet: the changed weights by name, in the number format of the base; None for adapters.
    lora: what core's LoRA nodes take; None where none was asked for. kept: share of the change in an extracted LoRA.
    """

    unet: Mapping[str, Tensor] | None
    lora: dict[str, Tensor] | None
    kept: float | None = None


def collect(
    model: Any, base: Mapping[str, Tensor], trained: TrainableWeights, settings: FinetuneSettings
) -> TrainedWeights:
    """base: all weights of the U-Net before the training, on the CPU."""
    if not settings.replaces_weights:
        return TrainedWeights(None, _adapter_tensors(model, trained, base))
    values = {name: value.cpu() for name, value in trained.values().items()}
    unet = {name: value.to(unet_files.stored_dtype(base[name].dtype)) for name, value in values.items()}
    if not settings.saves_lora:
        return TrainedWeights(unet, None)
    extracted = extract_lora(base, values, settings.rank)
    lora = unet_files.lora_state_dict(model, extracted.pairs, extracted.differences)
    return TrainedWeights(unet, lora, extracted.kept)


@dataclass(frozen=True)
class NewFile:
    """card: what it says about itself. whole: a U-Net's weights go with the others of `base`; else as a LoRA only."""

    name: str
    card: Mapping[str, Any]
    whole: bool
    overwrite: bool


def save(model: Any, base: Mapping[str, Tensor], weights: TrainedWeights, new: NewFile) -> Path:
    """Writes what was asked for; returns the path of the U-Net, or of the LoRA where that is all."""
    paths: list[Path] = []
    if weights.unet is not None and new.whole:
        tensors = {**base, **weights.unet}
        paths.append(unet_files.save_unet(new.name, model, tensors, new.card, new.overwrite))
    if weights.lora is not None:
        paths.append(unet_files.save_adapter(new.name, weights.lora, new.card, new.overwrite))
    return paths[0]


def patched_model(model: Any, weights: TrainedWeights) -> Any:
    """A clone of the MODEL that draws as the files do; the one given stays as it is."""
    if weights.unet is not None:
        return with_weights(model, weights.unet)
    assert weights.lora is not None
    return with_lora(model, weights.lora)


def _adapter_tensors(model: Any, trained: TrainableWeights, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The adapters under kohya's names; a convolution's LoRA as two kernels, as all programs write it."""
    names = unet_files.kohya_names(model)
    tensors: dict[str, Tensor] = {}
    for path, adapter in trained.adapters.items():
        kernel = base[path].shape[2:]
        for key, value in adapter.state_dict().items():
            value = value.detach().cpu().clone()
            if kernel and key == "lora_up.weight":
                value = value.reshape(*value.shape, *(1 for _ in kernel))
            elif kernel and key == "lora_down.weight":
                value = value.reshape(value.shape[0], -1, *kernel)
            tensors[f"{names[path]}.{key}"] = value
    return tensors
