"""Room on the compute device, asked for before a long run, and what the run then took."""

from __future__ import annotations

import ctypes
import gc
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from ....core_ops.training.memory_estimate import MemoryPlan

logger = logging.getLogger(__name__)
GIB = 2**30


@dataclass(frozen=True)
class Room:
    """Bytes that a training needs, and that were found."""

    needed: int
    found: int


def make_room(plan: MemoryPlan, device: torch.device, remedy: Callable[[Room], str]) -> str:
    """Has the host unload models until the plan fits; returns a line on what is needed and what was found.

    Raises ValueError, with the remedy, when there is not enough.
    """
    free_for(plan, device)
    found = int(comfy.model_management.get_free_memory(device))
    parts = (
        (plan.weights, f"models and trained weights {gib(plan.weights)}"),
        (plan.optimizer, f"optimizer {gib(plan.optimizer)}"),
        (plan.step, f"a step {gib(plan.step)}"),
        (plan.working, f"working memory {gib(plan.working)}"),
    )
    listed = ", ".join(told for size, told in parts if size)
    line = f"needs about {gib(plan.total)} ({listed}), found {gib(found)} on {device}"
    if plan.total > found:
        raise ValueError(f"memory: the training {line}. {remedy(Room(plan.total, found))}")
    logger.info("The training %s.", line)
    return line


def free_for(plan: MemoryPlan, device: torch.device) -> None:
    """Has the host unload models until the plan fits, or none is left."""
    comfy.model_management.free_memory(plan.total, device)


def free_for_copies(model: ModelPatcher, device: torch.device) -> None:
    """Has the host unload models until a copy of this one, and twice as much to work in, would fit, or none is left."""
    comfy.model_management.free_memory(3 * model.model_size(), device)


def gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"


class PeakMemory:
    """How much more memory a device held at its highest than when this was made."""

    def __init__(self, device: torch.device) -> None:
        import torch._dynamo  # which an optimizer imports in its first step, 100 MB and more that is no training

        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before: int | None = torch.cuda.memory_allocated(device)
        else:
            self._before = _resident("VmRSS") if device.type == "cpu" and _forget_peak() else None

    def taken(self) -> int | None:
        """Bytes; None where the system does not say: it does for CUDA, and on Linux for the CPU."""
        if self._before is None:
            return None
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return _resident("VmHWM") - self._before


def _forget_peak() -> bool:
    """Gives back what lies free in the process, and forgets its highest mark; false where the system is not Linux."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def _resident(field: str) -> int:
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024
