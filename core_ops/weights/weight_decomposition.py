"""DoRA (Liu et al. 2024, arXiv 2402.09353): a weight's columns as lengths and directions; LoRA turns the directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class WeightDecomposed(nn.Module):
    """W' = m · V / ‖V‖_c with V = W + (alpha / r) · up · down, Eq. 5; m, `up` and `down` are trained.

    weight: [out, in] or a convolution's [out, in, kh, kw], on any device; an input's column is its whole kernel. m:
    [1, in] or [1, in, 1, 1], the columns' lengths at first, so that W' begins as W. ‖V‖_c counts as constant in the
    backward pass, Sec. 4.3. Parameters are named as LyCORIS names them in files; `down` is random at first, `up` zero.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.lora_down = _matrix(rank, weight[0].numel())
        self.lora_up = _matrix(len(weight), rank)
        nn.init.kaiming_uniform_(self.lora_down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_up.weight)
        self.alpha = nn.Parameter(torch.tensor(alpha), requires_grad=False)
        self.dora_scale = nn.Parameter(column_lengths(weight.float()))

    @property
    def rank(self) -> int:
        return self.lora_up.in_features

    def forward(self, weight: Tensor) -> Tensor:
        return (self.turned(weight) * self.stretch(weight)).to(weight.dtype)

    def turned(self, weight: Tensor) -> Tensor:
        """V, in fp32."""
        product = (self.lora_up.weight @ self.lora_down.weight).view(weight.shape)
        return weight.float() + self.alpha / self.rank * product

    def stretch(self, weight: Tensor) -> Tensor:
        """m / ‖V‖_c, in the shape of m: to multiply a layer's input with it is to multiply its weight's columns."""
        with torch.no_grad():
            lengths = column_lengths(self.turned(weight))
        return self.dora_scale / lengths


def column_lengths(weight: Tensor) -> Tensor:
    """‖·‖_c: of all that one input is multiplied with, [1, in] or [1, in, 1, 1]; a column of zeros counts as tiny."""
    others = [axis for axis in range(weight.ndim) if axis != 1]
    return torch.linalg.vector_norm(weight, dim=others, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


def _matrix(rows: int, columns: int) -> nn.Linear:
    return nn.Linear(columns, rows, bias=False, dtype=torch.float32)
