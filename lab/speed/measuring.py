"""Two subjects in turn, A B A B, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from .. import ROOT
from .comparisons import Comparison
from .task import Task


class Subject:
    """A running child; a context manager."""

    def __init__(self, task: Task) -> None:
        self.task = task
        log = Path(task.folder) / f"{task.subject.replace(':', '-')}.log"
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lab.speed.child", task.to_json()],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Subject:
        self._answer()
        return self

    def __exit__(self, *_: Any) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def step(self) -> dict[str, Any]:
        return self._ask("step")

    def operations(self) -> int:
        """Floating-point operations of one more step."""
        return self._ask("operations")["operations"]

    def _ask(self, order: str) -> dict[str, Any]:
        assert self._process.stdin
        print(order, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            end = Path(self._log.name).read_text()[-3000:]
            raise RuntimeError(f"{self.task.subject} ended by itself:\n{end}")
        return json.loads(line)


@dataclass
class Record:
    """All that one subject did. The first step of a process warms it up and counts for the loss only.

    operations: floating-point ones of a step; 0 where they were not counted.
    """

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    first_loss: float | None = None
    operations: int = 0

    def warm_up(self, subject: Subject) -> None:
        self.first_loss = subject.step()["loss"]

    def step(self, subject: Subject) -> None:
        answer = subject.step()
        self.seconds.append(answer["seconds"])
        self.processor.append(answer["processor"])
        self.peaks.append(answer["peak"])

    def count(self, subject: Subject, wanted: bool) -> None:
        if wanted:
            self.operations = subject.operations()

    @property
    def peak(self) -> int:
        return max(self.peaks)


@dataclass(frozen=True)
class Outcome:
    """Both records of one comparison. On the CPU processor time counts, which other programs do not lengthen."""

    comparison: Comparison
    task: Task
    ours: Record
    other: Record

    def times(self, record: Record) -> list[float]:
        return record.processor if self.task.device == "cpu" else record.seconds

    @property
    def time_ratio(self) -> float:
        return median(self.times(self.ours)) / median(self.times(self.other))

    @property
    def memory_ratio(self) -> float:
        return self.ours.peak / self.other.peak

    @property
    def loss_difference(self) -> float | None:
        """Relative, of the first step: that both did the same work."""
        ours, other = self.ours.first_loss, self.other.first_loss
        if not self.comparison.same_loss or ours is None or other is None:
            return None
        return abs(ours - other) / abs(other)


def compare(comparison: Comparison, task: Task, repetitions: int, apart: bool, count: bool = False) -> Outcome:
    """task: its subject and pair are filled in. apart: never both in memory; each repetition is a new process.

    count: a step's operations, too. torch does not count the CPU's fused attention.
    """
    tasks = [replace(task, subject=subject, pair=comparison.name) for subject in (comparison.ours, comparison.other)]
    outcome = Outcome(comparison, tasks[0], Record(), Record())
    pairs = list(zip(tasks, (outcome.ours, outcome.other), strict=True))
    if apart:
        for _ in range(repetitions):
            for own, record in pairs:
                with Subject(own) as subject:
                    record.warm_up(subject)
                    record.step(subject)
                    record.count(subject, count)
        return outcome
    with ExitStack() as stack:
        running = [(stack.enter_context(Subject(own)), record) for own, record in pairs]
        for subject, record in running:
            record.warm_up(subject)
        for _ in range(repetitions):
            for subject, record in running:
                record.step(subject)
        for subject, record in running:
            record.count(subject, count)
    return outcome
