"""Tables and chart of what was measured, with what it was measured on."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ..comfyui import load_pack
from ..surroundings import surroundings
from .comparisons import BY_NAME, time_limit
from .measuring import Outcome

MIB = 2**20
PUBLISHED = ("sd15", "sd21", "sd21-256", "sdxl")
"""Sizes with the published models' shapes."""


def row_of(outcome: Outcome) -> dict[str, Any]:
    comparison, task = outcome.comparison, outcome.task
    limit = time_limit(comparison, task.size)
    reached = (limit is None or outcome.time_ratio <= limit) and (
        comparison.memory is None or outcome.memory_ratio <= comparison.memory
    )
    return {
        "work": comparison.name,
        "size": task.size,
        "side": task.side,
        "batch": task.batch,
        "device": task.device,
        "precision": task.precision,
        "host_options": "--bf16-unet" if task.bf16_unet else "",
        "time_ratio": f"{outcome.time_ratio:.3f}",
        "time_limit": _or_empty(limit),
        "memory_ratio": f"{outcome.memory_ratio:.3f}",
        "memory_limit": _or_empty(comparison.memory),
        "reached": "yes" if reached else "no",
        "clock_ratio": f"{median(outcome.ours.seconds) / median(outcome.other.seconds):.3f}",
        "ours_seconds": f"{median(outcome.times(outcome.ours)):.3f}",
        "other_seconds": f"{median(outcome.times(outcome.other)):.3f}",
        "ours_peak_MiB": round(outcome.ours.peak / MIB),
        "other_peak_MiB": round(outcome.other.peak / MIB),
        "first_loss_difference": "" if outcome.loss_difference is None else f"{outcome.loss_difference:.1e}",
        "all_ours_seconds": _listed(outcome.times(outcome.ours)),
        "all_other_seconds": _listed(outcome.times(outcome.other)),
        **surroundings(task.device),
    }


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draw_chart(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Ratios ours / other as bars; of published sizes, and beside others' work, where there are any of these."""
    rows = [row for row in rows if row["size"] in PUBLISHED] or rows
    rows = [row for row in rows if not BY_NAME[row["work"]].other.startswith("ours:")] or rows
    load_pack()
    from core_personalization.nodes.charts import new_figure

    figure = new_figure(1100, 80 + 60 * len(rows))
    axes = figure.subplots()
    for label, name, shift in (("time", "time", -0.2), ("peak memory", "memory", 0.2)):
        places = [place + shift for place in range(len(rows))]
        drawn = axes.barh(places, [float(row[f"{name}_ratio"]) for row in rows], 0.38, label=label)
        axes.bar_label(drawn, fmt="%.2f", label_type="center", color="white")
    axes.axvline(1, color="gray", linewidth=0.8)
    titles = [f"{BY_NAME[row['work']].title}, {row['side']} pixels, batch {row['batch']}" for row in rows]
    axes.set_yticks(range(len(rows)), titles)
    axes.invert_yaxis()
    axes.set_xlabel("ours / other: less is better")
    axes.legend(loc="upper right")
    figure.savefig(path)


def _or_empty(value: float | None) -> float | str:
    return "" if value is None else value


def _listed(seconds: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in seconds)
