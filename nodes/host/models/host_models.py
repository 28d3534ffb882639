"""The host's models as a node receives them: which base model they are, and the copies that a training computes with.

Leans on `ModelPatcher.cached_patcher_init`, the loader and its arguments, and on `patches`; the same since 0.28.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP

from ...files.file_metadata import pack_version
from .denoiser import HostDenoiser, UNetPlan, prediction_of
from .identity import fingerprint
from .text_encoder import HostTextEncoder, encoder_names

ARCHITECTURES = {
    ("clip_l",): {"epsilon": "stable-diffusion-v1", "v": "stable-diffusion-v1"},
    ("clip_h",): {"epsilon": "stable-diffusion-v2-512", "v": "stable-diffusion-v2-768-v"},
    ("clip_l", "clip_g"): {"epsilon": "stable-diffusion-xl-v1-base", "v": "stable-diffusion-xl-v1-base"},
    ("clip_g",): {"epsilon": "stable-diffusion-xl-v1-refiner", "v": "stable-diffusion-xl-v1-refiner"},
}
"""modelspec.architecture by text encoders and prediction."""
LOOKED_AT = 4096
"""Numbers of a patch's tensor, which may be a whole weight: no two trainings leave these alike."""


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

    def copied(self, plan: UNetPlan) -> TrainingModels:
        """Copies on the plan's device, trainable where it says so; on `meta` shapes of what the device will hold.

        The host unloads its own.
        """
        place = plan.device or self.device
        return TrainingModels(HostTextEncoder(self.clip, place, self.device), HostDenoiser(self.model, plan))

    def digests(self) -> dict[str, str]:
        """Fingerprints of what decides what a training on these models learns, patches included, by part."""
        unet, clip, vae = self.model, self.clip, self.vae
        return {
            "model": fingerprint(
                unet.model.diffusion_model, unet.backup, "diffusion_model.", prediction_of(unet), _patches_digest(unet)
            ),
            "text encoder": fingerprint(
                clip.cond_stage_model, clip.patcher.backup, "", str(clip.layer_idx), _patches_digest(clip.patcher)
            ),
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
    return digest.hexdigest()
