"""LoRA: a layer's output with it, and what a finetune changed as one: the nearest of a rank, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LowRank:
    """A weight's difference (alpha / r) · up · down.

    up: [out, r], for a convolution [out, r, 1, 1]. down: [r, in], for a convolution [r, in, kh, kw].
    kept: share of the squared norm of what it approximates.
    """

    up: Tensor
    down: Tensor
    alpha: float
    kept: float = 1.0

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def difference(self) -> Tensor:
        """[out, in] or [out, in, kh, kw]."""
        product = self.up.flatten(1) @ self.down.flatten(1)
        return (self.alpha / self.rank) * product.reshape(self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True)
class ExtractedLora:
    """What changed between two sets of weights, by parameter name.

    pairs: matrices and convolution kernels. differences: biases and norms, [width] each, whole.
    kept: share of the squared norm of all matrices' differences that is in `pairs`.
    """

    pairs: Mapping[str, LowRank]
    differences: Mapping[str, Tensor]
    kept: float


def low_rank(difference: Tensor, rank: int) -> LowRank:
    """The matrix or kernel of at most this rank that is nearest in the Frobenius norm (Eckart–Young), in fp32.

    The singular vectors are those of the Gram matrix of the shorter side, in fp64: as exact as an SVD in fp32, and
    quicker for kernels. `up` and `down` share the singular values evenly, so that fp16 holds both.
    """
    matrix = _in_double(difference).flatten(1)  # [out, in·kh·kw]
    tall = matrix.shape[0] > matrix.shape[1]
    if tall:
        matrix = matrix.T
    squared, vectors = torch.linalg.eigh(matrix @ matrix.T)  # ascending
    squared, vectors = squared.flip(0).clamp(min=0), vectors.flip(1)[:, :rank]
    kept = float(squared[:rank].sum() / squared.sum()) if squared.any() else 1.0
    # √σ, the fourth root of a Gram matrix's eigenvalue: `up` and `down` get one each. A σ of zero is raised to where
    # fp64 ends, for it divides; 1 where nothing changed.
    scale = squared[:rank].clamp(min=float(squared[0]) * 1e-16).pow(0.25).where(squared[0] > 0, 1.0)
    left, right = vectors * scale, (vectors.T @ matrix) / scale.unsqueeze(1)
    up, down = (right.T, left.T) if tall else (left, right)
    ones = (1,) * (difference.ndim - 2)
    return LowRank(
        up.reshape(*up.shape, *ones).float().contiguous(),
        down.reshape(-1, *difference.shape[1:]).float().contiguous(),
        alpha=float(up.shape[1]),
        kept=kept,
    )


def extract_lora(
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    rank: int,
    before_each: Callable[[int, int], object] = lambda done, total: None,
) -> ExtractedLora:
    """What `tuned` changed; weights that are equal in both are left out. `rank` is clipped to each weight's own.

    before_each: called with the numbers of weights done and of all, for progress and cancel.
    Raises ValueError when a tuned weight has no counterpart of its shape in `base`.
    """
    if rank < 1:
        raise ValueError(f"rank: {rank} is too small; give at least 1.")
    pairs: dict[str, LowRank] = {}
    differences: dict[str, Tensor] = {}
    kept = total = 0.0
    for done, (name, weight) in enumerate(tuned.items()):
        before_each(done, len(tuned))
        if name not in base or base[name].shape != weight.shape:
            raise ValueError(f"tuned: {name} {list(weight.shape)} is not among the base model's weights.")
        difference = weight.detach().float() - base[name].detach().to(weight.device).float()
        if not difference.any():
            continue
        if weight.ndim < 2:
            differences[name] = difference
            continue
        pairs[name] = low_rank(difference, rank)
        size = float(_in_double(difference).square().sum())
        total, kept = total + size, kept + pairs[name].kept * size
    return ExtractedLora(pairs, differences, kept / total if total else 1.0)


def _in_double(tensor: Tensor) -> Tensor:
    """In fp64, on the CPU where the device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).detach().double()


def low_rank_output(
    layer: nn.Module, x: Tensor, up: Tensor, down: Tensor, between: Callable[[Tensor, nn.Module], Tensor] | None = None
) -> Tensor:
    """up(down(x)) as `layer`, a linear one or a 2D convolution, would give it with the weight up · down, without making
    that product or taking a gradient of its size. x: the layer's input. up: [out, r]. down: [r, in] or [r, in·kh·kw].
    between: what down(x) becomes before up.

    LoRA: Hu et al. 2021, arXiv 2106.09685, Eq. 3.
    """
    up, down = up.to(x), down.to(x)
    convolves = isinstance(layer, nn.Conv2d)
    if convolves:
        kernels = down.unflatten(1, (-1, *layer.kernel_size))
        hidden = F.conv2d(x, kernels, None, layer.stride, layer.padding, layer.dilation)
    else:
        hidden = F.linear(x, down)
    if between is not None:
        hidden = between(hidden, layer)
    return F.conv2d(hidden, up[:, :, None, None]) if convolves else F.linear(hidden, up)
