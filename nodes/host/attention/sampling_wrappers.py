"""Functions of ours around the host's sampling, its predictions, evaluations and calls of the U-Net.

Leans on `comfy.patcher_extension`: four kinds of wrappers, what each is called with, and `executor.class_obj` (the
guider of a sampling, the U-Net of a call); the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

SAMPLING, PREDICTION, EVALUATION, UNET_CALL = (
    *(WrappersMP.OUTER_SAMPLE, WrappersMP.PREDICT_NOISE),
    *(WrappersMP.CALC_COND_BATCH, WrappersMP.DIFFUSION_MODEL),
)


def with_wrappers(model: ModelPatcher, key: str, wrappers: Mapping[str, Callable[..., Any]]) -> ModelPatcher:
    """A clone of the MODEL with them under a name; the model itself and its weights stay as they are."""
    wrapped = model.clone()
    for kind, wrapper in wrappers.items():
        wrapped.add_wrapper_with_key(kind, key, wrapper)
    return wrapped
