"""The host's models as a node receives them: which base model they are, and the copies that a training computes with.

Leans on `ModelPatcher.cached_patcher_init`, the loader and its arguments, and on its `patches` and
`backup`; the same since 0.28.0.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ....core_ops.weights.stored_weights import is_quantised
from ...files.file_metadata import pack_version
from ..attention.attention_replacement import patch_names
from .denoiser import HostDenoiser, UNetPlan, added_to, prediction_of
from .text_encoder import HostTextEncoder, encoder_names

if TYPE_CHECKING:
    from .trainable_unet import WeightChoice

ARCHITECTURES = {
    ("clip_l",): {"epsilon": "stable-diffusion-v1", "v": "stable-diffusion-v1"},
    ("clip_h",): {"epsilon": "stable-diffusion-v2-512", "v": "stable-diffusion-v2-768-v"},
    ("clip_l", "clip_g"): {"epsilon": "stable-diffusion-xl-v1-base", "v": "stable-diffusion-xl-v1-base"},
    ("clip_g",): {"epsilon": "stable-diffusion-xl-v1-refiner", "v": "stable-diffusion-xl-v1-refiner"},
}
"""modelspec.architecture by text encoders and prediction."""
LOOKED_AT = 4096
"""Numbers of a patch's tensor, which may be a whole weight: no two trainings leave these alike."""
FORMATS = {name: getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2", "bfloat16", "float16")}
"""From coarse to fine; fp32 counts as fp16, in which the SHA-256 is."""
COMPARED = 64
"""Numbers of a model."""
NOT_IN_FILES = ".text_projection."
"""A matrix that the host leaves as memory was, where a checkpoint has none."""


@dataclass(frozen=True)
class HostModels:
    """MODEL, CLIP and VAE."""

    model: Any
    clip: Any
    vae: Any

    @property
    def device(self) -> torch.device:
        """Where a training computes."""
        return self.model.load_device

    def copied(self, plan: UNetPlan, text: WeightChoice | None = None) -> TrainingModels:
        """Copies on the plan's device, trainable where it says so; on `meta` shapes of what the device will hold.

        text: in which form the text encoder is trained, None for frozen. The host unloads its own.
        """
        place = plan.device or self.device
        encoder = HostTextEncoder(self.clip, place, self.device, text)
        return TrainingModels(encoder, HostDenoiser(self.model, plan))

    def digests(self) -> dict[str, str]:
        """Fingerprints of what decides what a training on these models learns, patches included, by part."""
        unet, clip, vae = self.model, self.clip, self.vae
        drawn_with = (prediction_of(unet), _sampling_digest(unet), _patches_digest(unet))
        encoded_with = (str(clip.layer_idx), _patches_digest(clip.patcher))
        return {
            "model": fingerprint(
                unet.model.diffusion_model, unet.backup, "diffusion_model.", *drawn_with, matrices=True
            ),
            "text encoder": fingerprint(clip.cond_stage_model, clip.patcher.backup, "", *encoded_with, matrices=True),
            # Hosts load it in fp32 or bf16, as the device likes it.
            "VAE": fingerprint(vae.first_stage_model, vae.patcher.backup, dtype=torch.bfloat16),
        }

    def card(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """What a file says about itself: the base model, and what the training adds, such as resolution and phrase."""
        return {
            "architecture": architecture(self.model, self.clip),
            "base_model": base_model_name(self.model),
            "base_model_fingerprint": base_model_fingerprint(self.model),
            "pack_version": pack_version(),
            **training,
        }


@dataclass(frozen=True)
class TrainingModels:
    """Copies of the host's models behind the interfaces of core_ops."""

    encoder: HostTextEncoder
    denoiser: HostDenoiser


def architecture(model: ModelPatcher, clip: CLIP) -> str:
    """Raises ValueError when the two are not a Stable Diffusion 1.x, 2.x or XL model that predicts ε or v."""
    return ARCHITECTURES[encoder_names(clip)][prediction_of(model)]


def base_model_name(model: ModelPatcher) -> str:
    """Name of the file it was loaded from, where the loader kept it, else the host's name of its family."""
    _, arguments, *_ = model.cached_patcher_init or (None, ())
    files = [argument for argument in arguments if isinstance(argument, str | Path)]
    return Path(files[0]).name if files else type(model.model).__name__


def checkpoint_files(model: ModelPatcher, clip: CLIP) -> list[str]:
    """Names of the checkpoints that the two were loaded from; empty where either came from another loader."""
    loaders = (model.cached_patcher_init, clip.patcher.cached_patcher_init)
    known = [loader for loader in loaders if loader and "checkpoint" in loader[0].__name__]
    return [Path(arguments[0]).name for _, arguments, *_ in known] if len(known) == len(loaders) else []


def base_model_fingerprint(model: ModelPatcher) -> str:
    """Of the U-Net, for `same_model`; patches on it do not count."""
    return fingerprint(model.model.diffusion_model, model.backup, "diffusion_model.")


def _sampling_digest(model: ModelPatcher) -> str:
    """Of the noise levels, and of the nodes that change what the U-Net computes, by name: their settings are theirs."""
    sigmas = model.get_model_object("model_sampling").sigmas.detach().float().cpu()
    return digest_of(
        base64.b64encode(sigmas.numpy().tobytes()).decode(),
        *patch_names(model.model_options.get("transformer_options", {})),
    )


def _patches_digest(patcher: ModelPatcher) -> str:
    """Of LoRAs and other changes that wait to be applied: keys, strengths, and some numbers of each tensor."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            some = value.detach().flatten()[:: max(value.numel() // LOOKED_AT, 1)].to("cpu", copy=True)
            digest.update(str((value.dtype, value.shape)).encode() + some.view(torch.uint8).numpy().tobytes())
        elif isinstance(value, list | tuple):
            digest.update(str(len(value)).encode())
            for each in value:
                add(each)
        elif hasattr(value, "weights"):  # an adapter of the host's
            add((type(value).__name__, value.weights))
        elif callable(value):
            add(getattr(value, "__qualname__", type(value).__name__))
        else:
            digest.update(repr(value).encode())

    for key in sorted(patcher.patches, key=str):
        add((str(key), patcher.patches[key]))
    for lora in added_to(patcher):
        add(lora.made_of)
    return digest.hexdigest()


def fingerprint(
    module: torch.nn.Module,
    backup: Mapping[str, Any],
    prefix: str = "",
    *also: str,
    dtype: torch.dtype = torch.float16,
    matrices: bool = False,
) -> str:
    """Which model it is, whatever number format it was loaded in: by its biases and norms, which tell fine-tunes apart.

    As text: a SHA-256 of all of them and of `also`, one of the latter, the coarsest number format that holds them all,
    and some of them. backup: what the host has of weights that it patched in place, by name after
    `prefix`. dtype: for the SHA-256. matrices: some numbers of each count, too, which a LoRA that was merged changes.
    """
    weights = dict(_unpatched(module, backup, prefix))
    kinds = [{name: _read(weight) for name, weight in weights.items() if weight.ndim == 1}]
    if matrices:
        known = {name: weight for name, weight in weights.items() if weight.ndim > 1 and NOT_IN_FILES not in name}
        kinds.append({name: _read(_some_of(weight)) for name, weight in known.items()})
    digest = hashlib.sha256()
    for name, read in (item for kind in kinds for item in kind.items()):
        digest.update(name.encode() + read.to(dtype).view(torch.uint8).numpy().tobytes())
    every = [torch.cat([*kind.values(), torch.zeros(0)]) for kind in kinds]
    some = [each[torch.linspace(0, len(each) - 1, min(COMPARED, len(each))).round().long()] for each in every]
    numbers, text = torch.cat(every), base64.b64encode(torch.cat(some).half().numpy().tobytes()).decode()
    if not also:
        return " ".join((digest.hexdigest(), _format(numbers), text))
    return " ".join((digest_of(digest.hexdigest(), *also), digest_of(*also), _format(numbers), text))


def digest_of(*parts: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def same_model(one: str, other: str) -> bool:
    """Of two fingerprints; earlier versions of the pack wrote the SHA-256 alone."""
    (sha, *rest), (other_sha, *other_rest) = one.split() or [""], other.split() or [""]
    if len(rest) < 2 or len(rest) != len(other_rest):
        return sha == other_sha
    *also, dtype, numbers = rest
    *other_also, other_dtype, other_numbers = other_rest
    if also != other_also:
        return False
    return sha == other_sha or (dtype != other_dtype and _close(numbers, other_numbers, {dtype, other_dtype}))


def _unpatched(module: torch.nn.Module, backup: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Its weights without the patches that the host applied in place, by name."""
    for name, weight in module.named_parameters():
        kept = backup.get(prefix + name)
        yield name, (weight if kept is None else kept.weight).data  # detached, moved parameters may have no views


def _some_of(matrix: Tensor) -> Tensor:
    whole = matrix.dequantize() if is_quantised(matrix) else matrix
    return whole.flatten()[:: max(whole.numel() // COMPARED, 1)]


def _read(weight: Tensor) -> Tensor:
    return weight.to("cpu", torch.float32, copy=True)


def _format(numbers: Tensor) -> str:
    """The first of `FORMATS` that holds all of them exactly, else the last."""
    fitting = (name for name, dtype in FORMATS.items() if torch.equal(numbers.to(dtype).float(), numbers))
    return next(fitting, "float16")


def _close(one: str, other: str, formats: set[str]) -> bool:
    """Whether two texts of `fingerprint` hold the same numbers, each rounded to a format of its own, and to fp16."""
    a, b = (
        torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype=np.float16).copy()).float()
        for text in (one, other)
    )
    if a.shape != b.shape:
        return False
    rounding = [torch.finfo(FORMATS.get(name, torch.float16)) for name in (*formats, "float16")]
    relative, absolute = sum(each.eps / 2 for each in rounding), sum(each.tiny * each.eps / 2 for each in rounding)
    return bool(((a - b).abs() <= relative * torch.maximum(a.abs(), b.abs()) + absolute).all())
