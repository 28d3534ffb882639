"""What methods are compared on: the mini world with its judge, or somebody's own model and photos (`own_model`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from torch import Tensor

from ..world.networks.judge import Judge
from .host import Host
from .judging import SCORES, Scored, judged
from .protocol import Cell, Protocol, cells
from .records import Scores


class Bench(Interface):
    """row: a dataclass, of a picture with its scores. pictures: how the name of the file of such rows ends. scores: of
    a row, by name. axes: two of them with what a chart says of them, upwards and to the right."""

    row: type[Any]
    pictures: str
    scores: Scores
    axes: Mapping[str, str]

    def cells(self, protocol: Protocol) -> Iterator[Cell]: ...

    def host(self, folder: Path) -> Host:
        """folder: of the benchmark's runs."""

    def judged(self, cell: Cell, pictures: Tensor) -> Sequence[Any]:
        """pictures [prompts · n, 3, side, side] in 0…1, those of one prompt one after another."""

    def about(self) -> Mapping[str, Any]:
        """What runs depend on beside the protocol; JSON can hold it."""


class MiniWorld:
    row, pictures, scores = Scored, "pictures.csv.gz", SCORES
    axes: Mapping[str, str] = {
        "faithful": "faithful (its kind, all that the prompt names, no other hat)",
        "identity": "identity (judge's cosine with the concept)",
    }

    def cells(self, protocol: Protocol) -> Iterator[Cell]:
        return cells(protocol)

    def host(self, folder: Path) -> Host:
        return Host.mini_world(folder)

    def judged(self, cell: Cell, pictures: Tensor) -> Sequence[Scored]:
        return judged(self._judge, cell, pictures)

    def about(self) -> Mapping[str, Any]:
        return {}

    @cached_property
    def _judge(self) -> Judge:
        return Judge.load()
