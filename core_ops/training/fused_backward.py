"""Weights are updated while the backward pass goes on, so that their gradients are never in memory all at once.

As kohya's scripts and OneTrainer do under this name. Same numbers as an update at the end, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

PORTIONS = 16
"""How often the optimizer steps in a backward pass; every step looks through all parameters."""


def pending_bytes(parameters: Sequence[Tensor]) -> int:
    """Of gradients that wait for their update, at most: a portion, and the largest tensor that completes it."""
    return _portion(parameters) + max(parameter.nbytes for parameter in parameters)


def _portion(parameters: Sequence[Tensor]) -> int:
    return sum(parameter.nbytes for parameter in parameters) // PORTIONS


class FusedBackward:
    """optimizer: of these leaf `parameters`; its update of one must not depend on another's gradient."""

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
        self._optimizer, self._parameters = optimizer, list(parameters)
        self._portion, self._pending = _portion(parameters), 0

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Around one backward pass: afterwards all parameters are updated and have no gradients.

        A pass that fails leaves the parameters updated whose turn had come.
        """
        hooks = [parameter.register_post_accumulate_grad_hook(self._collect) for parameter in self._parameters]
        try:
            yield
            self._update()
        finally:
            self._pending = 0
            for hook in hooks:
                hook.remove()

    def _collect(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._pending += parameter.grad.nbytes
        if self._pending >= self._portion:
            self._update()

    def _update(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._pending = 0
