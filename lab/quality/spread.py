"""The benchmark's cells on many machines: a worker takes a concept, whose cells share what they train."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from preparation.errors import PreparationError
from ray.exceptions import RayActorError, RayError

from fleet.pool import Pool, Share, why
from fleet.run import LOST, connect

from .bench import Bench
from .cells import claim, missing, run
from .protocol import Protocol


class CellWorker:
    """To be made by Ray; see `fleet.pool`. comfyui: where it lies on every machine. until: as in `cells.run`."""

    def __init__(self, comfyui: str, bench: Bench, protocol: Protocol, folder: Path, until: float, name: str) -> None:
        os.environ["COMFYUI_PATH"] = comfyui
        self._bench, self._protocol, self._folder, self._until = bench, protocol, folder, until

    @ray.method(max_task_retries=-1)
    def start(self) -> None:
        """ComfyUI is loaded with the first cell, into this process."""

    def run(self, concept: str) -> None:
        run(self._bench, replace(self._protocol, concepts=[concept]), self._folder, self._until)

    @ray.method(concurrency_group="control")
    def progress(self) -> int:
        """Cells that are not done, of all concepts."""
        return len(missing(self._bench, self._protocol, self._folder))


def spread(bench: Bench, protocol: Protocol, folder: Path, until: float, address: str) -> None:
    """As `cells.run`, on a cluster of Ray's whose machines all see the folder. Raises PreparationError."""
    claim(bench, protocol, folder)
    todo = [name for name in protocol.concepts if missing(bench, replace(protocol, concepts=[name]), folder)]
    if not todo:
        return
    connect(address)
    try:
        share = Share.found()
        given: tuple[Any, ...] = (os.environ["COMFYUI_PATH"], bench, protocol, folder.resolve(), until)
        pool = Pool(share.actors(CellWorker, min(share.workers(), len(todo)), *given), todo)
        lost: Counter[str] = Counter()
        for ended in pool.run():
            if isinstance(ended.result, RayActorError) and lost[ended.item] < LOST:
                lost[ended.item] += 1
                pool.items.append(ended.item)
            elif isinstance(ended.result, RayError):
                raise PreparationError(f"{ended.item}: {why(ended.result)}")
            print(f"{ended.item}: {'lost' if ended.result else 'done'} on worker {ended.worker + 1}", flush=True)
    finally:
        ray.shutdown()
