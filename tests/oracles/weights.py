"""Weights under adapters, column by column in fp64, from the papers' equations alone."""

from __future__ import annotations

import torch
from torch import Tensor

Parts = list[Tensor]
"""up [out, r], scale [r], down [r, in]."""


def dora_weight(weight: Tensor, up: Tensor, down: Tensor, scale: float, lengths: Tensor) -> Tensor:
    """DoRA, Eq. 5: each column of W + scale · up · down with the length that is trained; its own counts as constant.

    weight: [out, in, …]; all that belongs to one input is a column. lengths: one for each input.
    """
    kernels = weight.double().flatten(2) if weight.ndim > 2 else weight.double().unsqueeze(2)  # [out, in, k]
    change = (up.double().flatten(1) @ down.double().flatten(1)).view(kernels.shape)
    columns = []
    for number, length in enumerate(lengths.double().flatten()):
        column = kernels[:, number] + scale * change[:, number]
        own = column.detach().square().sum().sqrt()
        columns.append(length * column / own)
    return torch.stack(columns, dim=1).view(weight.shape)


def timestep_change(now: Parts, start: Parts, ranks: int) -> Tensor:
    """T-LoRA, Sec. 4: the first `ranks` of up · diag(scale) · down, one by one, minus the same of the start."""
    total = torch.zeros(len(now[0]), now[2].shape[1], dtype=torch.float64)
    for rank in range(ranks):
        for sign, (up, scale, down) in ((1, now), (-1, start)):
            total = total + sign * scale[rank].double() * torch.outer(up[:, rank].double(), down[rank].double())
    return total
