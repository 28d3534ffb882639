"""What a fleet shows while it works: a line for each worker, and one for the whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

WHOLE = "all jobs"


class Screen:
    """Moving lines on a terminal; elsewhere a line for each job that ends."""

    def __init__(self, jobs: int, done: int, workers: int) -> None:
        self._jobs, self._done, self._before, self._workers = jobs, done, done, workers
        self._began = time.monotonic()
        self._console = Console(highlight=False, soft_wrap=True)
        columns = (
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=10)),
            BarColumn(20, table_column=Column(min_width=20)),
            TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True)),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._whole = self._progress.add_task(WHOLE, total=jobs, completed=done, text=self._left())
        self._lines = [self._progress.add_task(f"worker {n + 1}", total=1, text="starts") for n in range(workers)]

    def __enter__(self) -> Screen:
        self._progress.start()
        self.say(f"{self._jobs} jobs, {self._done} of them done before, on {self._workers} workers")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, at_work: Mapping[int, Any], progress: Mapping[int, Any]) -> None:
        for worker, line in enumerate(self._lines):
            job, seen = at_work.get(worker), progress.get(worker)
            text = "" if job is None else " · ".join(filter(None, [job.name, seen and seen.title, seen and seen.text]))
            self._progress.update(line, completed=seen.share if seen else 0, text=escape(text))
        self._progress.update(self._whole, completed=self._done, text=self._left())

    def done(self, job: str, worker: int, seconds: float) -> None:
        self._done += 1
        self.say(f"{job}: done on worker {worker + 1} in {duration(seconds)} ({self._done} of {self._jobs})")

    def say(self, text: str) -> None:
        self._console.print(escape(text))

    def _left(self) -> str:
        here = self._done - self._before
        if not here:
            return f"{self._done} of {self._jobs}"
        left = (time.monotonic() - self._began) / here * (self._jobs - self._done)
        return f"{self._done} of {self._jobs} · about {duration(left)} left"


def duration(seconds: float) -> str:
    """In its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
