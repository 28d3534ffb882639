"""One subject in a process of its own, steered line by line: python -m lab.speed.child TASK

Answers are lines of JSON on the standard output; what libraries print goes to the standard error.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .task import Task

Step = Callable[[], float | None]
"""Does one unit of the work; returns the step's loss where the work has one."""

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


def main() -> None:
    task = Task.from_json(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    module = importlib.import_module(f".{task.who}", __package__)
    importlib.import_module("torch._dynamo")  # which an optimizer's first step would do
    module.import_libraries(task)
    memory = MemoryWatch(torch.device(task.device))
    step: Step = module.SUBJECTS[task.work](task)
    memory.begin()
    answer(ready=True)
    for line in sys.stdin:
        if line.strip() == "step":
            answer(**timed(step, torch.device(task.device)), **memory.read())
        elif line.strip() == "operations":
            answer(operations=operations_of(step))


def timed(step: Step, device: torch.device) -> dict[str, float | None]:
    """seconds by the clock; processor: seconds that this process computed, which other programs do not lengthen."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    wall, processor = time.perf_counter(), time.process_time()
    loss = step()
    wait()
    return {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor, "loss": loss}


def operations_of(step: Step) -> int:
    """Floating-point operations of matrix products, convolutions and attention; 0 where torch's counter sees none.

    It cannot follow a step of another thread, nor one that enters inference mode.
    """
    try:
        with FlopCounterMode(display=False) as counter:
            step()
    except AssertionError:  # the counter's own
        traceback.print_exc()
        return 0
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
