"""Optimizers by the name that the user chooses, each from a well-kept library."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core_ops.training.optimization import ADAMW_BYTES, adamw

ParameterGroups = Sequence[Any]
Make = Callable[[ParameterGroups, float], torch.optim.Optimizer]
EIGHT_BIT, PRODIGY = "AdamW 8-bit", "Prodigy"


def adamw_8bit(groups: ParameterGroups, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    import bitsandbytes  # type: ignore[import-not-found]

    return bitsandbytes.optim.AdamW8bit(list(groups), lr=learning_rate, weight_decay=weight_decay)


def adafactor(groups: ParameterGroups, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """At the given rate: neither relative steps nor scaling by the size of the weights."""
    from transformers.optimization import Adafactor

    return Adafactor(
        list(groups),
        lr=learning_rate,
        weight_decay=weight_decay,
        relative_step=False,
        scale_parameter=False,
        warmup_init=False,
    )


def prodigy(groups: ParameterGroups, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Finds its own rate (Mishchenko and Defazio 2023); `learning_rate` is a factor of it, 1 as published."""
    from prodigyopt import Prodigy  # type: ignore[import-not-found]

    return Prodigy(list(groups), lr=learning_rate, weight_decay=weight_decay)


OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamW": adamw,
    EIGHT_BIT: adamw_8bit,
    "Adafactor": adafactor,
    PRODIGY: prodigy,
}
STATE_BYTES = {"AdamW": ADAMW_BYTES, EIGHT_BIT: 2, "Adafactor": 0, PRODIGY: 16}
"""Of optimizer state per trained number; Adafactor keeps a row and a column per matrix."""
_PACKAGES = {EIGHT_BIT: "bitsandbytes", PRODIGY: "prodigyopt"}


def validate_optimizer(name: str) -> None:
    """Raises ValueError when the package that it comes from is not installed."""
    package = _PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"optimizer: {name!r} needs the package {package}, which is not installed; run 'pip install {package}' in "
            "ComfyUI's Python, or choose AdamW or Adafactor."
        )


def with_own_rates(make: Make, rates: Sequence[tuple[Sequence[Tensor], float]]) -> Make:
    """The same optimizer, in which these tensors have a learning rate of their own, where it is not 0; groups of their
    own in any case, so that a state fits whatever the rates."""

    def build(parameters: ParameterGroups, learning_rate: float) -> torch.optim.Optimizer:
        apart = {id(tensor) for tensors, _ in rates for tensor in tensors}
        rest = [parameter for parameter in parameters if id(parameter) not in apart]
        groups = [{"params": list(tensors), "lr": rate or learning_rate} for tensors, rate in rates]
        return make([{"params": rest}, *groups], learning_rate)

    return build
