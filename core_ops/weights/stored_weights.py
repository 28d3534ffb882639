"""Frozen layers that compute from weights as they are stored: in fewer bits than they compute in, or in main memory.

A layer's weight is brought to its input's number format and device for one product, and again in the backward pass. So
neither a second copy of the weights nor a copy kept for the backward pass is ever in the device's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input
from torch.nn.utils import parametrize


def fetched(weight: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A stored weight as it is computed with: dequantized, in `dtype`, on `device`; itself where it is that already."""
    weight = weight.to(device, non_blocking=True)
    if is_quantised(weight):
        weight = weight.dequantize()
    return weight.to(dtype)


def is_quantised(weight: Tensor) -> bool:
    """Whether it is a subclass of the host's, of bytes and scales, that has no memory of its own."""
    return type(weight.data) is not Tensor


def compute_from_stored(layer: Any) -> None:
    """Has a frozen linear or 2D convolution layer compute from its weight as it is stored.

    Raises TypeError for other layers, and ValueError for a layer whose weight is trained.
    """
    if layer.weight.requires_grad:
        raise ValueError("compute_from_stored: the layer is trained; only frozen weights may stay as they are stored.")
    if not (isinstance(layer, nn.Conv2d) or hasattr(layer, "in_features")):
        raise TypeError(f"compute_from_stored: {type(layer).__name__} is neither linear nor a 2D convolution.")
    layer.__class__ = _stored_kind(type(layer))  # a function in its place would hold the layer, and be held by it


@cache
def _stored_kind(kind: type[nn.Module]) -> Any:
    """A kind of layer that computes from its weight as it is stored."""
    forward = _convolution if issubclass(kind, nn.Conv2d) else _linear
    return type(f"Stored{kind.__name__}", (kind,), {"forward": forward})


def _linear(layer: Any, x: Tensor) -> Tensor:
    return _Linear.apply(x, layer.weight, layer.bias)  # type: ignore[no-any-return]


def _convolution(layer: Any, x: Tensor) -> Tensor:
    return _Convolution.apply(x, layer.weight, layer.bias, layer)  # type: ignore[no-any-return]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = (
            weight  # not save_for_backward, which would have memory plans count it and tensors of the host fail
        )
        return F.linear(x, *_as_computed(x, weight, bias))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        return gradient @ fetched(ctx.weight, gradient.device, gradient.dtype), None, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: nn.Conv2d) -> Tensor:
        ctx.weight, ctx.shape = weight, x.shape
        geometry: Any = (layer.stride, layer.padding, layer.dilation, layer.groups)
        ctx.geometry = geometry
        return F.conv2d(x, *_as_computed(x, weight, bias), *geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        weight = fetched(ctx.weight, gradient.device, gradient.dtype)
        return conv2d_input(ctx.shape, weight, gradient, *ctx.geometry), None, None, None


def _as_computed(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return fetched(weight, x.device, x.dtype), None if bias is None else fetched(bias, x.device, x.dtype)


def cast_frozen(
    module: nn.Module, dtype: torch.dtype, stays: Callable[[Tensor], bool], untouched: Iterable[nn.Module] = ()
) -> None:
    """Turns parameters that are not trained to `dtype`, but for those that stay as they are stored, and those of the
    modules `untouched`."""
    adapters = [m[0] for m in module.modules() if isinstance(m, parametrize.ParametrizationList)]
    kept = {parameter for part in (*adapters, *untouched) for parameter in part.parameters()}
    for layer in module.modules():
        weight = layer._parameters.get("weight")
        computes = isinstance(layer, nn.Conv2d) or hasattr(layer, "in_features")
        if computes and weight is not None and not weight.requires_grad and stays(weight):
            compute_from_stored(layer)
            kept.update(layer.parameters(recurse=False))
    for parameter in module.parameters():
        if not parameter.requires_grad and parameter not in kept:
            parameter.data = parameter.data.to(dtype)
