"""A family's U-Net with some weights changed, and what core predicts with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from core_personalization.core_ops.weights.low_rank import extract_lora
from torch import Tensor

from .build import FAMILIES
from .load import load_family

CARD = {"architecture": "stable-diffusion-v1", "base_model": "base.safetensors", "base_model_fingerprint": "0" * 64}
CARD |= {"pack_version": "1", "resolution": 64, "phrase": "embedding:my-cat", "steps_done": 7}
CARD |= {"settings": {"rank": 4}}


@dataclass(frozen=True)
class Finetuned:
    """A family's MODEL, its U-Net's weights, and some of them changed: one of every kind there is."""

    name: str
    model: Any
    clip: Any
    base: dict[str, Tensor]
    changed: dict[str, Tensor]

    @property
    def tuned(self) -> dict[str, Tensor]:
        return self.base | self.changed


def finetuned(name: str) -> Finetuned:
    model, clip, _ = load_family(name)
    base = {key: weight.clone() for key, weight in model.model.diffusion_model.named_parameters()}
    kinds = {re.sub(r"\d+", "N", key): key for key in reversed(base)}
    random = torch.Generator().manual_seed(0)
    noise = {key: 0.3 * base[key].std() * torch.randn(base[key].shape, generator=random) for key in kinds.values()}
    return Finetuned(name, model, clip, base, {key: base[key] + noise[key] for key in noise})


def predict(family: Finetuned, model: Any) -> Tensor:
    """The denoised latents of core's own model call, patches applied, at one sigma."""
    import comfy.model_management
    import comfy.sampler_helpers

    random = torch.Generator().manual_seed(1)
    unet_config = FAMILIES[family.name]
    x = torch.randn(1, 4, 8, 8, generator=random)
    context = torch.randn(1, 77, unet_config.context_width, generator=random)
    y = torch.randn(1, unet_config.pooled_width, generator=random) if unet_config.pooled_width else None
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([model], force_full_load=True)
        return model.model.apply_model(x, torch.tensor([2.0]), c_crossattn=context, y=y).clone()


def with_weights(family: Finetuned, weights: dict[str, Tensor]) -> Any:
    """What the file should be equal to: a MODEL whose weights are set to these."""
    patched = family.model.clone()
    patched.add_patches({f"diffusion_model.{key}": ("set", (weight,)) for key, weight in weights.items()})
    return patched


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def lora_of(family: Finetuned, rank: int, biases: bool = True) -> dict[str, Tensor]:
    from core_personalization.nodes.host.models.unet_weights import lora_state_dict

    extracted = extract_lora(family.base, family.changed, rank)
    return lora_state_dict(family.model, extracted.pairs, extracted.differences if biases else None)


def save_unet(name: str, model: Any, tensors: dict[str, Tensor], card: dict[str, Any], overwrite: bool) -> Path:
    """As U-Net Identity Finetune writes a whole U-Net."""
    from core_personalization.nodes.files import unet_files
    from core_personalization.nodes.host.models.denoiser import prediction_of
    from core_personalization.nodes.host.models.unet_weights import as_in_a_file

    return unet_files.save_unet(name, as_in_a_file(model, tensors), prediction_of(model), card, overwrite)
