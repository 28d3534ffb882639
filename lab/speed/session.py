"""All comparisons of a run: weights, trainings, files."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from typing import Any

import torch

from ..world.training.precision import faster_format
from .comparisons import BY_NAME, EVERYTHING
from .measuring import compare
from .results import draw_chart, read_csv, row_of, write_csv
from .sizes import SIZES
from .task import DTYPES, Task, write_weights


def compare_all(options: argparse.Namespace) -> None:
    """options: as of the command."""
    if options.chart:
        draw_chart(read_csv(options.chart), options.chart.with_suffix(".png"))
        return
    size = SIZES[options.size]
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    precision = options.precision if options.precision != "auto" else faster_precision(device)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        side, batch = options.side or size.side, options.batch or size.batch
        task = Task("", "", options.size, side, batch, folder, device, precision, options.bf16_unet)
        write_weights(task)
        rows = []
        for name in options.works or EVERYTHING:
            outcome = compare(BY_NAME[name], task, options.repetitions, size.apart and device == "cpu")
            rows.append(row_of(outcome))
            print(line_of(rows[-1]), flush=True)
            write_csv(options.output / "results.csv", rows)
        draw_chart(rows, options.output / "ratios.png")


def faster_precision(device: str) -> str:
    """The name of the format that is faster on this device."""
    faster = faster_format(torch.device(device))
    return next(name for name, dtype in DTYPES.items() if dtype == faster)


def line_of(row: Mapping[str, Any]) -> str:
    return (
        f"{BY_NAME[row['work']].title}: time {row['time_ratio']} (limit {row['time_limit'] or 'none'}), "
        f"memory {row['memory_ratio']} (limit {row['memory_limit'] or 'none'}); "
        f"ours {row['ours_seconds']} s and {row['ours_peak_MiB']} MiB, other {row['other_seconds']} s and "
        f"{row['other_peak_MiB']} MiB; first losses differ by {row['first_loss_difference'] or 'n/a'}"
    )
