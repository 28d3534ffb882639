"""A LoRA from anywhere onto a MODEL and a CLIP, by core's own function; what does not fit is refused beforehand.

Core itself logs a line and goes on: a picture without the concept would be the only sign. Leans on the tables of names
and on `load_lora` in `comfy.lora`, and on the constructor and `calculate_weight` of `comfy.weight_adapter`, the same in
all hosts since 0.28.0.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import comfy.lora
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from comfy.weight_adapter.boft import BOFTAdapter
from comfy.weight_adapter.oft import OFTAdapter
from torch import Tensor

from ....core_ops.weights.low_rank import LowRank

if TYPE_CHECKING:
    from ....core_ops.weights.trainable_weights import TrainableWeights


def apply_lora(
    model: ModelPatcher, clip: CLIP, lora: Mapping[str, Tensor], strength: float
) -> tuple[ModelPatcher, CLIP]:
    """Patched clones; raises ValueError when a weight of the LoRA has no counterpart, or one of another shape."""
    names = comfy.lora.model_lora_keys_unet(model.model, {})
    names = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, names)
    stray = [key for key in lora if not any(key[: dot.start()] in names for dot in re.finditer(r"\.", key))]
    if stray:
        raise ValueError(
            f"file: {len(stray)} of its {len(lora)} LoRA weights are not of this model: {_some(stray)}; choose another."
        )
    weights = {**model.model.state_dict(), **clip.cond_stage_model.state_dict()}
    try:
        patches = comfy.lora.load_lora(dict(lora), names, log_missing=False)
    except Exception as error:
        raise ValueError(f"file: its LoRA cannot be read ({error}); choose another file.") from error
    wrong = [key for key, patch in patches.items() if not _fits(patch, key, weights[key])]
    if wrong or (lora and not patches):
        raise ValueError(
            f"file: its LoRA does not fit the shapes of this model ({_some(wrong or list(lora))}); "
            "load the base model that it was made for."
        )
    patched, patched_clip = comfy.sd.load_lora_for_models(model, clip, dict(lora), strength, strength)
    rotate_exactly(patched, model)
    rotate_exactly(patched_clip.patcher, clip.patcher)
    return patched, patched_clip


def rotate_exactly(clone: ModelPatcher, before: ModelPatcher) -> None:
    """The clone's OFT and BOFT patches that it has beyond those of `before` are applied in fp32, and once."""
    for key, entries in clone.patches.items():
        old = len(before.patches.get(key, ()))
        entries[old:] = [(strength, _exact(patch), *rest) for strength, patch, *rest in entries[old:]]


class _ExactRotation:
    """core's own inverts in fp32 and multiplies with a half where it patches a weight as it is needed (dynamic VRAM,
    models loaded by parts); that fails, and it logs a line. It also multiplies by the strength twice.
    """

    def calculate_weight(
        self, weight: Tensor, key: str, strength: float, strength_model: float, offset: Any, function: Any, *_: Any
    ) -> Tensor:
        """Into `weight`, which may be a view of what core gives on."""

        def scaled(difference: Tensor) -> Tensor:
            return function(strength * difference)

        host: Any = super()
        return weight.copy_(host.calculate_weight(weight.float(), key, 1.0, strength_model, offset, scaled))


class _OFT(_ExactRotation, OFTAdapter):
    pass


class _BOFT(_ExactRotation, BOFTAdapter):
    pass


_EXACT: dict[type, Any] = {OFTAdapter: _OFT, BOFTAdapter: _BOFT}


def _exact(patch: Any) -> Any:
    exact = _EXACT.get(type(patch))
    return exact(patch.loaded_keys, patch.weights) if exact else patch


def unet_pairs(model: ModelPatcher, lora: Mapping[str, Tensor], parameter: str) -> dict[str, LowRank]:
    """The U-Net's part of a LoRA file, by names of its weights; raises ValueError, beginning with `parameter`, for a
    file that has none for it."""
    patches = comfy.lora.load_lora(dict(lora), comfy.lora.model_lora_keys_unet(model.model, {}), log_missing=False)
    weights, pairs = model.model.state_dict(), dict[str, LowRank]()
    for key, patch in patches.items():
        if weights[key].ndim == 1:  # of a bias or a norm
            raise ValueError(
                f"{parameter}: it also changes biases and norms ({key}), which a training of a LoRA does not; choose "
                "another file, or put it on the model with Load LoRA."
            )
        more = patch.weights[3:] if getattr(patch, "name", "") == "lora" else [patch]  # DoRA and the like
        if any(each is not None for each in more) or not _fits(patch, key, weights[key]):
            raise ValueError(f"{parameter}: what it has for {key} is no LoRA of this model; choose another file.")
        up, down, alpha = patch.weights[:3]
        alpha = float(up.shape[1] if alpha is None else alpha)
        pairs[key.removeprefix("diffusion_model.")] = LowRank(up.float(), down.float(), alpha=alpha)
    if not pairs:
        raise ValueError(f"{parameter}: it has no LoRA of this model's U-Net; choose another file.")
    return pairs


def start_adapters(trained: TrainableWeights, pairs: Mapping[str, LowRank]) -> None:
    """LoRA adapters begin as these, of the same rank; those of other weights as they are."""
    with torch.no_grad():
        for path, pair in pairs.items():
            adapter: Any = trained.adapters[path]
            adapter.lora_up.weight.copy_(pair.up.flatten(1))
            adapter.lora_down.weight.copy_(pair.down.flatten(1))
            adapter.alpha.fill_(pair.alpha)


def _fits(patch: Any, key: str, weight: Tensor) -> bool:
    """Whether the host could add it: its own arithmetic, on tensors without content."""
    if isinstance(patch, tuple):
        return patch[1][0].shape == weight.shape
    added: list[Tensor] = []

    def note(difference: Tensor) -> Tensor:
        added.append(difference)
        return difference

    # Without its scale: that of OFT is compared with the content.
    unscaled = copy.copy(patch)
    unscaled.weights = tuple(0.0 if isinstance(part, float | int) else part for part in patch.weights)
    blank = torch.empty(weight.shape, device="meta")
    try:
        patched = unscaled.calculate_weight(blank, key, 1.0, 1.0, None, note)
    except Exception:
        return False
    return bool(added) and patched.shape == weight.shape


def _some(keys: list[str]) -> str:
    """The first keys, for a message."""
    return ", ".join(repr(key[:120]) for key in keys[:3]) + (", …" if len(keys) > 3 else "")
