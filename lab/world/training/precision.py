"""The number format to train in: bf16 where the processor is faster with it, else fp32.

Measured, since it depends on more than the name of a processor: with matrix units bf16 is twice as fast as fp32, and
without them ten times slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache

import torch

FORMATS = (torch.float32, torch.bfloat16)
TRIES = 3


def autocast(device: torch.device) -> torch.autocast:
    """Around a forward pass: bf16 where it is faster on this device, else nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=faster_format(device) == torch.bfloat16)


@cache
@torch.enable_grad()
def faster_format(device: torch.device) -> torch.dtype:
    """Of the two; measured once in a process, in some hundredths of a second."""
    return fastest({dtype: _workload(device, dtype) for dtype in FORMATS})


def fastest(workloads: Mapping[torch.dtype, Callable[[], object]]) -> torch.dtype:
    """The format whose workload took the least time, at its best of a few tries taken in turn."""
    best = dict.fromkeys(workloads, float("inf"))
    for _ in range(TRIES):
        for dtype, work in workloads.items():
            began = time.perf_counter()
            work()
            best[dtype] = min(best[dtype], time.perf_counter() - began)
    return min(best, key=lambda dtype: best[dtype])


def _workload(device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """A convolution and a matrix product, there and back, as a small U-Net has them."""
    image = torch.zeros(2, 128, 16, 16, device=device, dtype=dtype, requires_grad=True)
    convolution = torch.nn.Conv2d(128, 128, 3, padding=1, device=device, dtype=dtype)
    linear = torch.nn.Linear(128, 512, device=device, dtype=dtype)

    def work() -> float:
        output = linear(convolution(image).flatten(2).mT).sum()
        output.backward()
        return output.item()  # waits for a GPU

    work()
    return work
