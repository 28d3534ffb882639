"""Which number format the U-Net's copy runs in. Text encoder, losses and trained vectors are always fp32."""

from __future__ import annotations

import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_for(precision: str, device: torch.device) -> torch.dtype:
    """The format a precision setting means on a device; "auto" takes bf16 where the hardware multiplies it natively.

    Raises ValueError for fp16 on a CPU, where it has no fast or complete arithmetic.
    """
    if precision == "auto":
        return torch.bfloat16 if _has_native_bf16(device) else torch.float32
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision: fp16 needs a GPU; choose auto, fp32 or bf16 on a CPU.")
    return _DTYPES[precision]


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        matrix_unit = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return bool(matrix_unit())
    return False
