"""Weights in 8 bits: integers of -127…127 and one scale per row, so that no row suffers from another's outlier."""

from __future__ import annotations

import torch
from torch import Tensor

SCALE_SUFFIX = ".row_scale"


def quantize(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8 with fp32 scales [rows]; vectors and scalars as fp16."""
    packed = {}
    for name, weight in state.items():
        if weight.ndim < 2:
            packed[name] = weight.half()
            continue
        rows = weight.float().flatten(1)
        scale = (rows.abs().amax(dim=1) / 127).clamp(min=1e-12)
        packed[name] = (rows / scale[:, None]).round().to(torch.int8).view(weight.shape)
        packed[name + SCALE_SUFFIX] = scale
    return packed


def dequantize(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything in fp16; the inverse of `quantize` up to half a step of each row's scale."""
    state = {}
    for name, stored in packed.items():
        if name.endswith(SCALE_SUFFIX):
            continue
        scale = packed.get(name + SCALE_SUFFIX)
        if scale is not None:
            stored = stored.float() * scale.view(-1, *[1] * (stored.ndim - 1))
        state[name] = stored.half().contiguous()
    return state
