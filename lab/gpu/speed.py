"""The comparisons of lab/speed on the card, and the share of its matrix rate that a step reaches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from .process import Setup, Worker
from .rows import Case, Row, in_time
from .worker import Measure

TITLE = "Speed: ours beside the other program, and the share of the matrix rate that each reaches"
PRECISION = "bf16"
SIZE, BATCH = "sd21", 6
"""SD 2.1's shapes at 512 pixels; CoRe's published batch."""
WORKS = ("core", "textual-inversion", "lora", "finetune", "attndreambooth-1", "finetune-fused", "test-time", "probed")
"""The most wanted first: the rest is left out when the time is up."""
REPETITIONS = 5
MATRIX_SIDE = 8192
ROOM_FOR_BOTH = 40 * 2**30
"""Bytes of a card on which both sides of every comparison fit at a time."""


def rows(folder: str, small: bool, until: float) -> Iterator[Row]:
    works = WORKS[:1] if small else WORKS
    with Worker(Setup("speed", folder, small)) as worker:
        matrix = worker.ask({}, until)
        rate = matrix.get("rate")
        name = f"one matrix product, {PRECISION}"
        figures = {"TFLOP/s": rate / 1e12} if rate else {}
        yield Row("speed", name, None if rate else False, figures, matrix.get("error", ""))
        cases = [{"work": work} for work in works]
        yield from in_time("speed", cases, until, lambda case: row_of(case, worker.ask(case, until), rate))


def row_of(case: Case, answer: Case, rate: float | None) -> Row:
    """rate: operations per second of the matrix product; a step's share is of that."""
    if "error" in answer:
        return Row("speed", case["work"], None if answer.get("late") else False, said=answer["error"])

    def share(side: str) -> float | None:
        operations = answer[f"{side}_operations"]
        return operations / answer[f"{side}_seconds"] / rate if operations and rate else None

    figures = {
        "time ratio": answer["time_ratio"],
        "limit": answer["time_limit"],
        "memory ratio": answer["memory_ratio"],
        "limit of memory": answer["memory_limit"],
        "ours, s": answer["ours_seconds"],
        "other, s": answer["other_seconds"],
        "ours, GiB": answer["ours_peak"],
        "other, GiB": answer["other_peak"],
        "ours, TFLOP": answer["ours_operations"] / 1e12 or None,
        "ours, share of the rate": share("ours"),
        "other's share": share("other"),
        "first losses differ by": answer["loss_difference"],
    }
    over = [
        f"{name} is above its limit"
        for name, limit in (("time ratio", "limit"), ("memory ratio", "limit of memory"))
        if figures[limit] is not None and figures[name] > figures[limit]
    ]
    return Row("speed", answer["title"], not over, figures, ", ".join(over))


def prepared(setup: Setup) -> Measure:
    import torch

    from ..speed.comparisons import BY_NAME, time_limit
    from ..speed.measuring import compare
    from ..speed.sizes import SIZES
    from ..speed.task import Task, write_weights

    folder = Path(setup.folder) / "speed"
    folder.mkdir(exist_ok=True)
    name, batch = ("tiny", 1) if setup.small else (SIZE, BATCH)
    task = Task("", "", name, SIZES[name].side, batch, str(folder), "cuda", PRECISION, bf16_unet=True)
    apart = torch.cuda.get_device_properties(0).total_memory < ROOM_FOR_BOTH and not setup.small
    repetitions = 1 if setup.small or apart else REPETITIONS

    def measure(case: Case) -> Case:
        if not case:
            return {"rate": matrix_rate(512 if setup.small else MATRIX_SIDE, task.dtype)}
        if not task.weights.exists():
            write_weights(task)
        outcome = compare(BY_NAME[case["work"]], task, repetitions, apart, count=True)
        sides: Any = {"ours": outcome.ours, "other": outcome.other}
        return {
            "title": outcome.comparison.title,
            "time_ratio": outcome.time_ratio,
            "time_limit": None if setup.small else time_limit(outcome.comparison, name),
            "memory_ratio": outcome.memory_ratio,
            "memory_limit": None if setup.small else outcome.comparison.memory,
            "loss_difference": outcome.loss_difference,
            **{f"{side}_seconds": median(outcome.times(record)) for side, record in sides.items()},
            **{f"{side}_peak": record.peak / 2**30 for side, record in sides.items()},
            **{f"{side}_operations": record.operations for side, record in sides.items()},
        }

    return measure


def matrix_rate(side: int, dtype: Any) -> float:
    """Operations per second of a square matrix product: the best of a few, as nothing else can lengthen a time."""
    import torch

    a, b = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(2 if side < MATRIX_SIDE else 30):  # the first ones warm it up
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.mm(a, b)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best
