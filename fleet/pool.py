"""Work spread over actors: each gets the next item when it is free; what a dead one had is given back.

Ray places the actors, restarts them and says which of them died. An actor has four methods: `start`, which may be
called again, `run(item)`, `progress()` and `stop()`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from preparation.errors import PreparationError
from ray.exceptions import RayError

from . import ROOT

Item = TypeVar("Item")
POLL = 0.3
"""Seconds between looks at the workers' progress."""
STARTS = 3
"""Times in a row that a worker may fail to start before it is given up."""


@dataclass(frozen=True)
class Share:
    """Of a cluster, what one worker gets. cpus: also the threads that it computes with."""

    gpus: int
    cpus: int

    @classmethod
    def found(cls, cpus: int | None = None, gpus: int | None = None) -> Share:
        """A GPU each where there are any, and a core for it; else two cores; where nothing else is asked for."""
        gpus = int(ray.cluster_resources().get("GPU", 0) > 0) if gpus is None else gpus
        return cls(gpus, cpus or (1 if gpus else 2))

    def workers(self) -> int:
        """As many as the cluster has room for now."""
        there = ray.cluster_resources()
        kind, each = ("GPU", self.gpus) if self.gpus else ("CPU", self.cpus)
        return max(int(there.get(kind, 0) // each), 1)

    def actors(self, kind: type, count: int, *given: Any, first: int = 0) -> list[Any]:
        """Made with what is given, and a name each."""
        variables = {"PYTHONPATH": str(ROOT), **({} if self.gpus else {"OMP_NUM_THREADS": str(self.cpus)})}
        options: dict[str, Any] = {"num_gpus": self.gpus, "num_cpus": self.cpus, "max_restarts": -1}
        options |= {"runtime_env": {"env_vars": variables}, "concurrency_groups": {"control": 1}}
        made = ray.remote(**options)(kind)
        return [made.remote(*given, f"worker {number + 1}") for number in range(first, first + count)]


@dataclass(frozen=True)
class Ended(Generic[Item]):
    """result: what `run` returned; an error of Ray's where the worker died, or of `run` itself."""

    item: Item
    worker: int
    result: Any


class Pool(Generic[Item]):
    """items: to be done; more may be added while it runs. at_work: by worker, the item that it has."""

    def __init__(self, actors: Sequence[Any], items: Iterable[Item]) -> None:
        self.items: deque[Item] = deque(items)
        self.at_work: dict[int, Item] = {}
        self.stopping = False
        self._actors = actors
        self._idle: set[int] = set()
        self._awaited: dict[Any, int] = {}
        self._failed_starts: dict[int, int] = {}
        self._asked: dict[int, Any] = {}
        self._seen: dict[int, Any] = {}

    def run(self, show: Callable[[Mapping[int, Any]], None] = lambda progress: None) -> Iterator[Ended[Item]]:
        """Whatever ends, as it ends. show: gets the progress of all that are at work.

        Raises PreparationError when no worker can be started.
        """
        self._awaited = {actor.start.remote(): number for number, actor in enumerate(self._actors)}
        while self.at_work or (self.items and not self.stopping):
            while self.items and self._idle and not self.stopping:
                worker, item = self._idle.pop(), self.items.popleft()
                self.at_work[worker] = item
                self._awaited[self._actors[worker].run.remote(item)] = worker
            for reference in ray.wait(list(self._awaited), timeout=POLL)[0]:
                worker = self._awaited.pop(reference)
                result = _result(reference)
                if worker in self.at_work:
                    yield Ended(self.at_work.pop(worker), worker, result)
                    self._awaited[self._actors[worker].start.remote()] = worker
                else:
                    self._started(worker, result)
            show(self._progress())

    def stop(self) -> None:
        """What runs saves its state and ends; nothing further is begun."""
        self.stopping = True
        for worker in self.at_work:
            self._actors[worker].stop.remote()

    def _started(self, worker: int, result: Any) -> None:
        if not isinstance(result, RayError):
            self._failed_starts.pop(worker, None)
            self._idle.add(worker)
            return
        self._failed_starts[worker] = self._failed_starts.get(worker, 0) + 1
        if self._failed_starts[worker] < STARTS:
            self._awaited[self._actors[worker].start.remote()] = worker
        elif not self._awaited and not self._idle:
            raise PreparationError(f"No worker can be started. {why(result)}")

    def _progress(self) -> Mapping[int, Any]:
        """As last heard of: a worker that does not answer is not waited for."""
        for worker in self.at_work:
            if worker not in self._asked:
                self._asked[worker] = self._actors[worker].progress.remote()
        ready = ray.wait(list(self._asked.values()), num_returns=len(self._asked), timeout=0)[0] if self._asked else []
        for worker in [worker for worker, reference in self._asked.items() if reference in ready]:
            self._seen[worker] = _result(self._asked.pop(worker))
        heard = {worker: self._seen.get(worker) for worker in self.at_work}
        return {worker: progress for worker, progress in heard.items() if not isinstance(progress, RayError | None)}


def why(error: RayError) -> str:
    """What an actor's method raised, or what happened to the actor."""
    return str(getattr(error, "cause", None) or error).strip()


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        return error
