"""The presets of "U-Net Identity Finetune", one record each: what a method is published with, by input.

What a record does not name is the input's default. The help page's table says where each is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core_ops.pictures import COPIES
from ...core_ops.recipes.identity_finetuning import IdentityFinetuningConfig
from ..host.models.trainable_unet import (
    ATTENTION,
    CROSS_ATTENTION,
    FULL,
    KEYS_VALUES,
    LORA,
    OFT,
    SINGULAR_VALUES,
    T_LORA,
    WHOLE,
)

CORE, DREAMBOOTH_LORA, SVDIFF = "CoRe stage 2", "DreamBooth LoRA", "SVDiff"
TEXT_ENCODER_RATE = 5e-5
"""Of a LoRA, as kohya's trainers and TextBoost (Park et al. 2024) have it."""
_CORE = {"steps": 1000, "batch_size": IdentityFinetuningConfig.batch_size, "learning_rate": 2e-6}
_ALIGNED = {"alignment_mean": 2.0, "alignment_variance": 5.0}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    CORE: {"scope": WHOLE, "form": FULL, **_CORE},
    "CoRe stage 2 (reference code)": {"scope": WHOLE, "form": FULL, **_CORE, "augmentation": COPIES},
    "AttnDreamBooth stage 2": {
        **{"scope": CROSS_ATTENTION, "form": FULL, "steps": 100, "batch_size": 8, "learning_rate": 2e-5},
        **_ALIGNED,
    },
    "AttnDreamBooth stage 3": {
        **{"scope": WHOLE, "form": FULL, "steps": 500, "batch_size": 8, "learning_rate": 2e-6},
        **_ALIGNED,
    },
    "AttnDreamBooth stage 3 (fast)": {
        **{"scope": WHOLE, "form": FULL, "steps": 200, "batch_size": 4, "learning_rate": 1e-5},
        **_ALIGNED,
    },
    "DreamBooth": {"scope": WHOLE, "form": FULL, "steps": 1000, "batch_size": 1, "learning_rate": 5e-6},
    "DreamBooth with text encoder": {
        **{"scope": WHOLE, "form": FULL, "steps": 1000, "batch_size": 1, "learning_rate": 5e-6},
        "train_text_encoder": True,
    },
    DREAMBOOTH_LORA: {"scope": ATTENTION, "form": LORA, "steps": 500, "batch_size": 1, "learning_rate": 1e-4},
    "TI + DreamBooth": {"scope": WHOLE, "form": FULL, **_CORE, "train_embedding": True},
    "Custom Diffusion": {
        **{"scope": KEYS_VALUES, "form": FULL, "steps": 250, "batch_size": 8, "learning_rate": 8e-5},
        "train_embedding": True,
    },
    "ClassDiffusion": {
        **{"scope": KEYS_VALUES, "form": FULL, "steps": 500, "batch_size": 2, "learning_rate": 2e-5},
        **{"train_embedding": True, "semantic_weight": 1.0},
    },
    OFT: {"scope": ATTENTION, "form": OFT, "steps": 2005, "batch_size": 1, "learning_rate": 6e-5},
    T_LORA: {
        **{"scope": ATTENTION, "form": T_LORA, "rank": 64, "least_rank": 0.5, "steps": 800, "batch_size": 1},
        **{"learning_rate": 1e-4, "weight_decay": 1e-4},
    },
    SVDIFF: {"scope": WHOLE, "form": SINGULAR_VALUES, "steps": 500, "batch_size": 1, "learning_rate": 1e-3},
}
