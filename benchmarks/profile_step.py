"""Where a step's time goes, by torch.profiler: python benchmarks/profile_step.py --subject ours:core --size small

Prints the operators by the time they took themselves, and the sums of their kinds. Subjects are those of
benchmarks/speed: ours:WORK, peers:WORK and comfyui:WORK; one of the peers needs what ours hands to it, so ours is built
first. --trace writes a file for chrome://tracing.
"""

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from speed import SIZE_NAMES

PREPARED = "CORE_PROFILE_PREPARED"
"""Set in the environment of the process that profiles."""

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


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", default="ours:core", metavar="WHO:WORK")
    parser.add_argument("--size", choices=SIZE_NAMES, default="small", help="default: small")
    parser.add_argument("--side", type=int, metavar="PIXELS", help="another than the size's")
    parser.add_argument("--batch", type=int, metavar="N", help="another than the size's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rows", type=int, default=25, help="operators in the table (default: 25)")
    parser.add_argument("--trace", type=Path, metavar="FILE")
    return parser.parse_args()


def profile(chosen: argparse.Namespace) -> None:
    import torch
    from speed.sizes import SIZES
    from speed.task import Task
    from speed.weights import write_weights

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


def built(task):
    """The subject's step; ours is built first, in a process of its own, where another one needs its batches."""
    import importlib
    from dataclasses import replace

    if task.who == "peers":
        from speed.measuring import Subject

        with Subject(replace(task, subject=f"ours:{task.work}")):
            pass
    module = importlib.import_module(f"speed.{task.who}")
    module.import_libraries(task)
    return module.SUBJECTS[task.work](task)


def print_kinds(seconds: dict[str, float]) -> None:
    """seconds: of each operator alone, by its name."""
    sums = defaultdict(float)
    for name, own in seconds.items():
        kind = next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")
        sums[kind] += own
    total = sum(sums.values())
    print(f"{total:.2f} s in one step")
    for kind, own in sorted(sums.items(), key=lambda item: -item[1]):
        print(f"  {kind:18} {own:8.2f} s  {own / total:6.1%}")


if __name__ == "__main__":
    chosen = options()
    if PREPARED not in os.environ:
        from speed.prepared import start

        os.environ[PREPARED] = "1"
        sys.exit(start("profile_step"))
    profile(chosen)
