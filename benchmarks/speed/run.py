"""One run of the benchmark: weights, comparisons, files."""

from __future__ import annotations

import argparse
import tempfile
import time

import torch

from .comparisons import BY_NAME, EVERYTHING
from .growth import measure_growth
from .measuring import Outcome, compare
from .results import draw_chart, row_of, write_csv
from .sizes import SIZES
from .task import DTYPES, Task
from .weights import write_weights


def run(options: argparse.Namespace) -> int:
    size = SIZES[options.size]
    names = options.works or ([] if options.growth else EVERYTHING)
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    precision = options.precision if options.precision != "auto" else faster_precision(device)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        task = Task(
            "", "", options.size, options.side or size.side, options.batch or size.batch, folder, device, precision
        )
        write_weights(task)
        outcomes = []
        for name in names:
            outcomes.append(compare(BY_NAME[name], task, options.repetitions, size.apart and device == "cpu"))
            print(line_of(outcomes[-1]), flush=True)
            write_csv(options.output / "results.csv", [row_of(outcome) for outcome in outcomes])
        if outcomes:
            draw_chart(outcomes, options.output / "ratios.png")
        if options.growth:
            write_csv(options.output / "growth.csv", measure_growth(task, options.repetitions))
    return 0


def faster_precision(device: str) -> str:
    """Of a matrix product and a convolution there and back, whose formats differ in speed by far on some devices."""
    seconds = {name: _seconds_of(device, dtype) for name, dtype in DTYPES.items()}
    return min(seconds, key=lambda name: seconds[name])


def _seconds_of(device: str, dtype: torch.dtype) -> float:
    image = torch.randn(1, 320, 32, 32, device=device, dtype=dtype, requires_grad=True)
    convolution = torch.nn.Conv2d(320, 320, 3, padding=1, device=device, dtype=dtype)
    linear = torch.nn.Linear(320, 1280, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        float(linear(convolution(image).flatten(2).mT).sum())
        linear(convolution(image).flatten(2).mT).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def line_of(outcome: Outcome) -> str:
    row = row_of(outcome)
    return (
        f"{outcome.comparison.title}: time {row['time_ratio']} (limit {row['time_limit'] or 'none'}), "
        f"memory {row['memory_ratio']} (limit {row['memory_limit'] or 'none'}); "
        f"ours {row['ours_seconds']} s and {row['ours_peak_MiB']} MiB, other {row['other_seconds']} s and "
        f"{row['other_peak_MiB']} MiB; first losses differ by {row['first_loss_difference'] or 'n/a'}"
    )
