"""Peak memory of a process."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class MemoryWatch:
    """Bytes taken since the libraries were imported, at their highest after `begin`: models, optimizer, activations.

    CUDA: what torch's allocator held. CPU: resident memory as Linux counts it.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._base = 0 if self._cuda else _resident("VmRSS")

    def begin(self) -> None:
        """Forgets what loading took."""
        if self._cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            RESET.write_text("5")

    def read(self) -> dict[str, int]:
        """peak: since `begin`. base: before the models, not in the peak."""
        peak = torch.cuda.max_memory_allocated() if self._cuda else _resident("VmHWM") - self._base
        return {"peak": peak, "base": self._base}


def _resident(field: str) -> int:
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    return int(kilobytes) * 1024
