"""A LoRA of a CLIP's text encoders: named as in files, and as a patch of a clone.

Leans on `comfy.lora.model_lora_keys_clip`, the host's own table of names; the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Mapping

import comfy.lora
import comfy.sd
from comfy.sd import CLIP
from torch import Tensor

from .text_encoder import encoder_names

TEXT_PREFIX = "lora_te"


def kohya_text_names(clip: CLIP) -> dict[str, str]:
    """What kohya's trainers call the layers of its text encoders, by the host's path of a weight: `lora_te_…`, and of
    SDXL's two `lora_te1_…` and `lora_te2_…`. Core, A1111 and diffusers read both."""
    known: dict[str, str] = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    encoders = encoder_names(clip)
    numbers = [""] if len(encoders) == 1 else [str(number + 1) for number in range(len(encoders))]
    prefixes = {f"{TEXT_PREFIX}{number}_text_model_": name for number, name in zip(numbers, encoders, strict=True)}
    return {
        path: name
        for name, path in known.items()
        for prefix, encoder in prefixes.items()
        if name.startswith(prefix) and path.startswith(f"{encoder}.")
    }


def with_text_lora(clip: CLIP, lora: Mapping[str, Tensor]) -> CLIP:
    """A clone with the LoRA on top of its patches, by the host's own loader."""
    _, clone = comfy.sd.load_lora_for_models(None, clip, dict(lora), 0.0, 1.0)
    assert clone is not None
    return clone
