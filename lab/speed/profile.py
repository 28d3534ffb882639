"""One step of a subject under torch.profiler: python -m lab profile"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import torch

from .child import Step
from .measuring import Subject
from .sizes import SIZES
from .task import Task, write_weights

KINDS = {
    "convolutions": ("convolution", "conv"),
    "matrix products": ("addmm", "bmm", "mm", "linear", "baddbmm"),
    "fused attention": ("scaled_dot_product", "flash_attention"),
    "norms": ("layer_norm", "group_norm"),
    "softmax": ("softmax",),
    "optimizer": ("_fused_adam", "_foreach", "addcdiv", "addcmul", "lerp"),
    "copies and casts": ("copy_", "_to_copy", "clone", "cat", "contiguous", "stack"),
    "activations": ("gelu", "silu"),
    "sums": ("add", "sum", "mean", "mul", "div", "fill_", "zero_"),
}


def profile(chosen: argparse.Namespace) -> None:
    """chosen: as of the command."""
    size = SIZES[chosen.size]
    with tempfile.TemporaryDirectory() as folder:
        side, batch = chosen.side or size.side, chosen.batch or size.batch
        task = Task(chosen.subject, "profiled", chosen.size, side, batch, folder, chosen.device, chosen.precision)
        write_weights(task)
        step = built(task)
        step()
        kinds = [torch.profiler.ProfilerActivity.CPU]
        kinds += [torch.profiler.ProfilerActivity.CUDA] if chosen.device == "cuda" else []
        with torch.profiler.profile(activities=kinds) as profiled:
            step()
    averages = profiled.key_averages()
    own_time = "self_device_time_total" if chosen.device == "cuda" else "self_cpu_time_total"
    print(averages.table(sort_by=own_time, row_limit=chosen.rows, max_name_column_width=48))
    print_kinds({entry.key: getattr(entry, own_time) / 1e6 for entry in averages})
    if chosen.trace:
        profiled.export_chrome_trace(str(chosen.trace))


def built(task: Task) -> Step:
    """The subject's step; ours is built first, in a process of its own, where another one needs its batches."""
    if task.who == "peers":
        with Subject(replace(task, subject=f"ours:{task.work}")):
            pass
    module = importlib.import_module(f".{task.who}", __package__)
    module.import_libraries(task)
    return module.SUBJECTS[task.work](task)


def print_kinds(seconds: Mapping[str, float]) -> None:
    """seconds: of each operator alone, by its name."""
    sums: dict[str, float] = defaultdict(float)
    for name, own in seconds.items():
        kind = next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")
        sums[kind] += own
    total = sum(sums.values())
    print(f"{total:.2f} s in one step")
    for kind, own in sorted(sums.items(), key=lambda item: -item[1]):
        print(f"  {kind:18} {own:8.2f} s  {own / total:6.1%}")
