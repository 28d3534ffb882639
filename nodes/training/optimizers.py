"""Optimizers by the name that the user chooses, each from a well-kept library."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core_ops.training.training_loop import ADAMW_BYTES, adamw

ParameterGroups = Sequence[Any]
Make = Callable[[ParameterGroups, float], torch.optim.Optimizer]
EIGHT_BIT = "AdamW 8-bit"


def adamw_8bit(groups: ParameterGroups, learning_rate: float) -> torch.optim.Optimizer:
    import bitsandbytes  # type: ignore[import-not-found]

    return bitsandbytes.optim.AdamW8bit(list(groups), lr=learning_rate, weight_decay=1e-2)


def adafactor(groups: ParameterGroups, learning_rate: float) -> torch.optim.Optimizer:
    """At the given rate: neither relative steps nor scaling by the size of the weights."""
    from transformers.optimization import Adafactor

    return Adafactor(
        list(groups), lr=learning_rate, weight_decay=1e-2, relative_step=False, scale_parameter=False, warmup_init=False
    )


OPTIMIZERS: Mapping[str, Make] = {"AdamW": adamw, EIGHT_BIT: adamw_8bit, "Adafactor": adafactor}

STATE_BYTES = {"AdamW": ADAMW_BYTES, EIGHT_BIT: 2, "Adafactor": 0}
"""Of optimizer state per trained number; Adafactor keeps a row and a column per matrix."""


def validate_optimizer(name: str) -> None:
    """Raises ValueError when the package that it comes from is not installed."""
    if name == EIGHT_BIT and importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"optimizer: {EIGHT_BIT!r} needs the package bitsandbytes, which is not installed; run 'pip install "
            "bitsandbytes' in ComfyUI's Python, or choose AdamW or Adafactor."
        )


def with_embedding_rate(make: Make, embedding: Sequence[Tensor], rate: float) -> Make:
    """The same optimizer, in which the embedding's vectors have a learning rate of their own."""

    def build(parameters: ParameterGroups, learning_rate: float) -> torch.optim.Optimizer:
        rest = [parameter for parameter in parameters if not any(parameter is other for other in embedding)]
        return make([{"params": rest}, {"params": list(embedding), "lr": rate}], learning_rate)

    return build
