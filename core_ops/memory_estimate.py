"""How much memory a training step will take, measured on its own forward pass before the first step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a training takes beside the weights that it works with.

    activations: kept for the backward pass. optimizer: gradients and the optimizer's state. maps: the largest
    attention map, which is there for a moment only. working: of torch's kernels, and what lives between two layers;
    0.20 to 0.23 GiB were measured on a CPU.
    """

    activations: int
    optimizer: int = 0
    maps: int = 0
    working: int = 200 * 2**20

    @property
    def total(self) -> int:
        return self.activations + self.optimizer + self.maps + self.working


@dataclass
class _Saved:
    """Bytes that autograd keeps for the backward pass, each storage once; those of `blocks` also apart."""

    known: set[int]
    total: int = 0
    block_inputs: int = 0
    per_block: list[int] = field(default_factory=list)

    def pack(self, tensor: Tensor) -> None:
        """Keeps nothing for autograd: an output kept here would hold its own graph, out of the collector's sight. So
        storages end while this counts, and others come to lie where they were."""
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place not in self.known:
            self.known.add(place)
            weakref.finalize(storage, self.known.discard, place)
            self.total += storage.nbytes()

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.block_inputs += sum(value.nbytes for value in inputs if isinstance(value, Tensor))
        self.per_block.append(-self.total)

    def leave(self, _module: nn.Module, _inputs: tuple[Any, ...], _output: Any) -> None:
        self.per_block[-1] += self.total

    def recomputed(self) -> int:
        """Bytes when the blocks' insides are computed again in the backward pass, one block at a time."""
        return self.total - sum(self.per_block) + self.block_inputs + max(self.per_block, default=0)


def activation_bytes(
    forward: Callable[[], Any], parameters: Iterable[Tensor], blocks: Sequence[nn.Module], recompute: bool
) -> int:
    """What `forward` keeps for its backward pass, the parameters not counted.

    blocks: modules that do not contain each other. recompute: their insides are not kept (gradient checkpointing).
    """
    saved = _Saved({parameter.untyped_storage().data_ptr() for parameter in parameters})
    hooks = [block.register_forward_pre_hook(saved.enter) for block in blocks]
    hooks += [block.register_forward_hook(saved.leave) for block in blocks]
    try:
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, _never_unpacked):
            kept = forward()
            del kept
    finally:
        for hook in hooks:
            hook.remove()
    return saved.recomputed() if recompute else saved.total


def extrapolated(bytes_of_batch: Callable[[int], int], batch_size: int) -> int:
    """Bytes for a whole batch, from those of one and of two samples: part of them does not grow with the batch."""
    if batch_size <= 2:
        return bytes_of_batch(batch_size)
    one, two = bytes_of_batch(1), bytes_of_batch(2)
    return one + (batch_size - 1) * max(two - one, 0)


def _never_unpacked(_: None) -> Tensor:
    raise AssertionError("the measured forward pass has no backward pass")
