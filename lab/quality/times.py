"""How soon each method's embedding is as good as CoRe's published schedule leaves it: processor time to quality.

An embedding is looked at every few steps, by pictures of the evaluation prompts; where the learning rate falls until
the training ends, at the end of trainings of that many steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from ..world.networks.judge import Judge
from . import records
from .drawing import draw
from .host import Host, Trained
from .judging import judged
from .methods import CORE, FAST, METHODS, TI
from .protocol import CAPTIONS, Cell
from .subjects import DIVERSE, Thing
from .training import embedding_settings

STEPS = (25, 50, 75, 100, 150, 200, 300)
"""Looked at; the last is the published schedule's."""
PROTOCOL = replace(CAPTIONS, name="times", embedding_steps=STEPS[-1])
METHOD_OF = {CORE: "CoRe, stage 1", FAST: "CoRe fast, stage 1", TI: TI}
CONSTANT, COSINE = "constant", "warm-up, cosine"
SETTINGS: Mapping[str, Mapping[str, Any]] = {CONSTANT: {}, COSINE: {"schedule": "cosine", "warmup": 0.1}}
RUNS = {(CORE, CONSTANT): STEPS, (FAST, CONSTANT): STEPS, (TI, CONSTANT): STEPS, (FAST, COSINE): STEPS[1:-1:2]}
"""Method and how its rate goes → steps that are looked at."""
TARGET, NEAR = (CORE, CONSTANT), 0.02
"""Both means must come so near to what this one ends with."""


@dataclass(frozen=True)
class TimedRow:
    """Means over the evaluation prompts' pictures of one concept. seconds: of processor time in training steps."""

    method: str
    rate: str
    concept: str
    steps: int
    seconds: float
    text_alignment: float
    identity: float


def run(folder: Path, results: Path, concepts: Sequence[str]) -> None:
    """Trains, draws and judges what the file has not yet; writes times.csv and times.md."""
    host, judge, file = Host.mini_world(folder), Judge.load(), results / "times.csv"
    rows = records.read(file, TimedRow) if file.exists() else []
    for concept in concepts:
        for method, rate in RUNS:
            if not any((row.concept, row.method, row.rate) == (concept, method, rate) for row in rows):
                rows += _looked_at(host, judge, concept, method, rate)
                records.write(file, TimedRow, rows)
    report(results)


def report(results: Path) -> None:
    records.report(results / "times.csv", TimedRow, table)


def _looked_at(host: Host, judge: Judge, concept: str, method: str, rate: str) -> Iterator[TimedRow]:
    cell, steps = Cell(METHODS[METHOD_OF[method]], Thing(concept), DIVERSE, seed=0), RUNS[method, rate]
    trainings = [steps] if rate == CONSTANT else [(last,) for last in steps]
    for looks in trainings:
        for step, trained in _trained(host, cell, SETTINGS[rate], looks).items():
            rows = judged(judge, cell, draw(host, PROTOCOL, cell, trained))
            identities = [row.identity for row in rows if row.identity is not None]
            means = (round(mean(values), 4) for values in ([row.text_alignment for row in rows], identities))
            yield TimedRow(method, rate, concept, step, round(trained.seconds, 2), *means)


def _trained(host: Host, cell: Cell, rate: Mapping[str, Any], looks: Sequence[int]) -> dict[int, Trained]:
    """The embedding at these steps of one training, which ends with the last."""
    settings = {**embedding_settings(replace(PROTOCOL, embedding_steps=looks[-1]), cell), **rate}
    with torch.inference_mode():
        training = host.ready_embedding(cell.pictures(), None, {**settings, "concept_name": "timed"})
    seconds, found = 0.0, {}
    with torch.inference_mode(False), torch.enable_grad():
        began = time.process_time()
        for report in training.session.loop:
            seconds += time.process_time() - began
            if report.step in looks:
                concept = training.learned.save(
                    f"timed-{report.step}", overwrite=True, record=training.session.record()
                )
                found[report.step] = Trained(host.model, concept, seconds)
            began = time.process_time()
    return found


def table(rows: Sequence[TimedRow]) -> str:
    """Markdown: steps and processor time until the means over concepts reach the target, as parts of its own."""
    from .report import markdown

    goal = _means(rows, *TARGET)[-1]
    lines = []
    for method, rate in dict.fromkeys((row.method, row.rate) for row in rows):
        found = _means(rows, method, rate)
        reached = next((each for each in found if _as_good(each, goal)), None)
        shown = reached or found[-1]
        lines.append([
            method, rate, str(len({row.concept for row in rows if (row.method, row.rate) == (method, rate)})),
            str(reached.steps) if reached else "not within 300",
            f"{reached.seconds / goal.seconds:.2f}" if reached else "",
            f"{shown.text_alignment:.3f}", f"{shown.identity:.3f}",
        ])  # fmt: skip
    return (
        markdown(["method", "rate", "concepts", "steps", "processor time", "text alignment", "identity"], lines) + "\n"
    )


def _means(rows: Sequence[TimedRow], method: str, rate: str) -> list[TimedRow]:
    """Over concepts, by steps."""
    own = [row for row in rows if (row.method, row.rate) == (method, rate)]
    return [
        TimedRow(method, rate, "", steps, *(
            mean(getattr(row, name) for row in own if row.steps == steps)
            for name in ("seconds", "text_alignment", "identity")
        ))
        for steps in sorted({row.steps for row in own})
    ]  # fmt: skip


def _as_good(found: TimedRow, goal: TimedRow) -> bool:
    return found.text_alignment >= goal.text_alignment - NEAR and found.identity >= goal.identity - NEAR
