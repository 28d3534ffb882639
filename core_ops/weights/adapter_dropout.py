"""Dropout between the two matrices of a low-rank adapter, as kohya's `network_dropout`: less is learned by heart."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AdapterDropout:
    """While a step is trained, each number of down(x) is 0 with this probability, and the others grow by 1 / (1 − p).

    A step's masks follow from one draw and from the layer, not from a stream: a layer that is computed once more in the
    backward pass (gradient checkpointing) drops the same. Without gradients nothing is dropped.
    """

    def __init__(self, probability: float = 0.0) -> None:
        self.probability = probability
        self._seed: int | None = None
        self._numbers: dict[nn.Module, int] = {}

    def draw(self, generator: torch.Generator) -> None:
        """Masks of the next step; probability 0 draws nothing. generator: on the CPU."""
        if self.probability:
            self._seed = int(torch.randint(2**62, (), generator=generator))

    def __call__(self, hidden: Tensor, layer: nn.Module) -> Tensor:
        """hidden: down(x), of any shape. layer: whose masks are meant; the first one that comes is number 0."""
        if self._seed is None or not torch.is_grad_enabled():
            return hidden
        number = self._numbers.setdefault(layer, len(self._numbers))
        draw = None if hidden.is_meta else torch.Generator(hidden.device).manual_seed(self._seed + number)
        kept = torch.rand(hidden.shape, generator=draw, device=hidden.device) >= self.probability
        return hidden * kept / (1 - self.probability)
