"""What a finetune of the U-Net leaves: a patched MODEL, and files that say the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...core_ops.weights.low_rank import extract_lora
from ...core_ops.weights.timestep_rank import OrthogonalLowRank, RankSchedule
from ...core_ops.weights.trainable_weights import TrainableWeights
from ..files import safe_files, unet_files
from ..host.models.denoiser import prediction_of
from ..host.models.host_models import HostModels, TrainingModels
from ..host.models.text_weights import TEXT_PREFIX, kohya_text_names, with_text_lora
from ..host.models.timestep_lora import with_timestep_lora
from ..host.models.unet_weights import as_in_a_file, kohya_names, lora_state_dict, unet_weights, with_lora, with_weights


@dataclass(frozen=True)
class TrainedWeights:
    """Trained weights at one moment, on the CPU.

    unet: the changed weights by name, in fp32; None for adapters. lora: what core's LoRA nodes take, by kohya's keys;
    None where there is none. text: the same for the text encoder; empty where it is not trained. kept: share of the
    change that an extracted LoRA holds.
    """

    unet: Mapping[str, Tensor] | None
    lora: Mapping[str, Tensor] | None
    text: Mapping[str, Tensor] = field(default_factory=dict)
    kept: float | None = None


@dataclass(frozen=True)
class NewFile:
    """card: what it says about itself. whole: a changed U-Net is written with all its weights, not only as a LoRA."""

    name: str
    card: Mapping[str, Any]
    overwrite: bool
    whole: bool = True


def collect(host: HostModels, models: TrainingModels) -> TrainedWeights:
    trained, text = models.denoiser.trainable, models.encoder.trainable
    own = {}
    if text is not None:
        own = _adapter_tensors(kohya_text_names(host.clip), host.clip.cond_stage_model, text)
    if trained.replaces_weights:
        return TrainedWeights({name: value.detach().cpu() for name, value in trained.values()}, None, own)
    lora = _adapter_tensors(kohya_names(host.model), host.model.model.diffusion_model, trained)
    return TrainedWeights(None, lora, own)


def with_extracted_lora(
    model: Any, weights: TrainedWeights, rank: int, before_each: Callable[[int, int], object]
) -> TrainedWeights:
    """Adds the LoRA of this rank that is nearest to the change."""
    assert weights.unet is not None
    extracted = extract_lora(unet_weights(model), weights.unet, rank=rank, before_each=before_each)
    lora = lora_state_dict(model, extracted.pairs, extracted.differences)
    return replace(weights, lora=lora, kept=extracted.kept)


def save(model: Any, weights: TrainedWeights, new: NewFile) -> Path:
    """Writes what there is; returns the path of the U-Net, or of the LoRA where that is all.

    Raises ValueError where nothing has changed, so that there is no LoRA.
    """
    paths: list[Path] = []
    if weights.unet is not None and new.whole:
        whole = as_in_a_file(model, {**unet_weights(model), **weights.unet})
        paths.append(
            unet_files.save_unet(
                new.name, whole, prediction=prediction_of(model), card=new.card, overwrite=new.overwrite
            )
        )
    if adapters := {**(weights.lora or {}), **weights.text}:
        paths.append(unet_files.save_adapter(new.name, adapters, card=new.card, overwrite=new.overwrite))
    if not paths:
        raise ValueError("steps: no weight has changed yet, so there is no LoRA to write; take more steps.")
    return paths[0]


def read_weights(unet: Path | None, names: Iterable[str], lora: Path | None) -> TrainedWeights:
    """What `save` wrote, as far as it was asked for. names: of a U-Net's weights, those that were trained."""
    changed = None
    if unet is not None:
        tensors = safe_files.read_own(unet)[0]
        changed = {name: tensors[name] for name in names}
    adapters = {} if lora is None else safe_files.read_own(lora)[0]
    text = {name: tensor for name, tensor in adapters.items() if name.startswith(TEXT_PREFIX)}
    rest = {name: tensor for name, tensor in adapters.items() if name not in text}
    return TrainedWeights(changed, rest or None, text)


def patched_model(model: Any, weights: TrainedWeights, ranks: RankSchedule | None = None) -> Any:
    """A clone of the MODEL that draws as the files do; the one given stays as it is. ranks: of a T-LoRA."""
    if weights.unet is not None:
        return with_weights(model, weights.unet)
    assert weights.lora is not None
    return with_lora(model, weights.lora) if ranks is None else with_timestep_lora(model, weights.lora, ranks)


def patched_clip(clip: Any, weights: TrainedWeights) -> Any:
    """The same of the CLIP."""
    return with_text_lora(clip, weights.text) if weights.text else clip


def _adapter_tensors(names: Mapping[str, str], host: nn.Module, trained: TrainableWeights) -> dict[str, Tensor]:
    """The adapters under kohya's names; a convolution's LoRA as two kernels, as all programs write it.

    names: by the path of a weight in the host's module.
    """
    tensors: dict[str, Tensor] = {}
    for path, adapter in trained.adapters.items():
        kernel = host.get_parameter(path).shape[2:]
        parts = adapter.lora_tensors() if isinstance(adapter, OrthogonalLowRank) else adapter.state_dict()
        for key, value in parts.items():
            value = value.detach().cpu().clone()
            if kernel and key == "lora_up.weight":
                value = value.reshape(*value.shape, *(1 for _ in kernel))
            elif kernel and key == "lora_down.weight":
                value = value.reshape(value.shape[0], -1, *kernel)
            tensors[f"{names[path]}.{key}"] = value
    return tensors
