"""How a step's time and memory grow, as the exponent of a power law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import linear_regression, median
from typing import Any

from .measuring import growth_values
from .results import MIB, surroundings
from .task import Task

SUBJECTS = ("ours:textual-inversion", "ours:core")
GROWN = {
    "batch": (1, 2, 4, 8),
    "side": (256, 384, 512, 768),
    "images": (2, 4, 8, 16),
    "vectors": (1, 2, 4, 8),
    "prompt_words": (5, 10, 20),
}


def exponent(values: Sequence[float], results: Sequence[float]) -> float:
    """p of the power law results ∝ valuesᵖ that fits best."""
    return linear_regression([math.log(value) for value in values], [math.log(result) for result in results]).slope


def measure_growth(task: Task, repetitions: int) -> list[dict[str, Any]]:
    """One row per subject, number and value. Sides are those of a full-size model, scaled to the task's."""
    rows = []
    for subject in SUBJECTS:
        for name, values in GROWN.items():
            if name == "side":
                values = [value * task.side // 512 for value in values]
            records = growth_values(replace(task, subject=subject, pair="growth"), name, values, repetitions)
            seconds = [median(record.processor if task.device == "cpu" else record.seconds) for record in records]
            peaks = [record.peak / MIB for record in records]
            print(
                f"{subject} over {name}: time ∝ ^{exponent(values, seconds):.2f}, memory ^{exponent(values, peaks):.2f}"
            )
            for value, second, peak in zip(values, seconds, peaks, strict=True):
                rows.append(
                    {
                        "subject": subject,
                        "size": task.size,
                        "number": name,
                        "value": value,
                        "seconds": f"{second:.4f}",
                        "peak_MiB": round(peak),
                        "time_exponent": f"{exponent(values, seconds):.2f}",
                        "memory_exponent": f"{exponent(values, peaks):.2f}",
                        **surroundings(task.device),
                    }
                )
    return rows
