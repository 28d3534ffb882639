"""Which number format the U-Net's copy computes in, and what may stay in the format that it is stored in.

Losses, trained vectors and the text encoder's arithmetic are always fp32.
"""

from __future__ import annotations

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....core_ops.weights.stored_weights import is_quantised

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_for(precision: str, device: torch.device, loaded: torch.dtype | None = None) -> torch.dtype:
    """The format a precision setting means on a device.

    "auto" takes the one that the host computes this model in (loaded) where that is a half that the device has, else
    bf16 where the hardware multiplies it natively, else fp32. Raises ValueError for fp16 on a CPU, where it has no fast
    or complete arithmetic.
    """
    if precision == "auto":
        if loaded == torch.float16 and device.type != "cpu":
            return torch.float16
        return torch.bfloat16 if _has_native_bf16(device) else torch.float32
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision: fp16 needs a GPU; choose auto, fp32 or bf16 on a CPU.")
    return _DTYPES[precision]


def computed_dtype(model: ModelPatcher) -> torch.dtype | None:
    """The format in which the host computes a MODEL, whichever its weights are stored in."""
    cast = getattr(model.model, "manual_cast_dtype", None)
    return cast or model.model_dtype()


def stays_stored(weight: Tensor, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a frozen weight stays as it is stored and is cast for each product.

    Eight bits do, and on a GPU halves that are computed with in fp32, and what lies in main memory. On a CPU, where
    memory is plenty, halves are cast once. device, dtype: where and in which format it is computed with.
    """
    eight_bits = is_quantised(weight) or weight.dtype.itemsize == 1
    if device.type == "cpu":
        return eight_bits
    return eight_bits or weight.device.type == "cpu" or weight.dtype.itemsize < dtype.itemsize


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        matrix_unit = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return bool(matrix_unit())
    return False
