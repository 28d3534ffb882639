"""How much memory a training takes, from a rehearsal: one step on torch's `meta` device, where tensors are shapes.

Nothing is computed and nothing is copied, so that a training that does not fit is refused before it takes anything.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")
BLOCK = 512
"""Bytes; CUDA's caching allocator hands out whole blocks."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a training takes on its device.

    weights: copies of the models, where they do not lie on the host's own memory, and what is trained. optimizer: its
    state. step: the largest moment of a step: activations, gradients and what passes by. working: of torch's kernels
    and allocator.
    """

    weights: int
    optimizer: int
    step: int
    working: int = 200 * 2**20

    @property
    def total(self) -> int:
        return self.weights + self.optimizer + self.step + self.working


class Rehearsal(TorchDispatchMode):
    """Counts the memory of `meta` tensors made while it is active. What is read from one is 1.

    Of tensors that were there before nothing is counted. A CPU tensor that meets a meta tensor counts for nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        reads_number = func is torch.ops.aten._local_scalar_dense.default
        to_cpu = func is torch.ops.aten._to_copy.default and getattr(kwargs.get("device"), "type", "") == "cpu"
        if (reads_number or to_cpu) and args[0].is_meta:
            ones = torch.ones(args[0].shape, dtype=args[0].dtype)
            return ones.item() if reads_number else ones
        result = func(*args, **kwargs)
        if _makes_new_memory(func):
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, Tensor) and tensor.is_meta:
                    self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        size = in_blocks(storage.nbytes())
        self.live += size
        self.peak = max(self.peak, self.live)

        def ended() -> None:
            self.live -= size

        weakref.finalize(storage, ended)


def in_blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def step_bytes(step: Callable[[], Any]) -> int:
    """Bytes at the largest moment of `step`, which works with meta tensors; those that it is given do not count."""
    with Rehearsal() as rehearsal:
        step()
    return rehearsal.peak


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' memory, each storage once, in whole blocks."""
    sizes = {
        storage._cdata: in_blocks(storage.nbytes()) for storage in (tensor.untyped_storage() for tensor in tensors)
    }
    return sum(sizes.values())


def rehearsed_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """For fused attention of meta tensors q [B, P, H·d], k and v [B, N, H·d]: what its kernels keep, and no map."""
    return _FusedAttention.apply(q, k, v, heads)  # type: ignore[no-any-return]


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        output = torch.empty_like(q)
        log_sums = torch.empty(q.shape[0], heads, q.shape[1], device=q.device)  # one number a row, in fp32
        ctx.save_for_backward(q, k, v, output, log_sums)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        q, k, v, *_ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None


@cache
def _makes_new_memory(func: Any) -> bool:
    """Not an operation in place, nor a view, whose results lie on the memory of an argument."""
    return not any(result.alias_info for result in func._schema.returns)
