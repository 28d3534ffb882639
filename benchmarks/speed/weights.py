"""Random weights of a size, the same for all subjects."""

from __future__ import annotations

import multiprocessing

from families.build import checkpoint
from safetensors.torch import save_file

from .task import Task


def write_weights(task: Task) -> None:
    """In a process of its own, whose memory goes with it."""
    process = multiprocessing.get_context("spawn").Process(target=_write_weights, args=(task,))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the random weights could not be written; see above")


def _write_weights(task: Task) -> None:
    save_file({key: value.contiguous() for key, value in checkpoint(task.family).items()}, task.weights)
