"""What was found: one JSON, written anew with every row, and tables."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Case = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """ok: None for what was left out, or has nothing to hold. figures: by the heading of their column.

    said: what is off, or was left out.
    """

    stage: str
    name: str
    ok: bool | None
    figures: Mapping[str, float | str | None] = field(default_factory=dict)
    said: str = ""

    @property
    def verdict(self) -> str:
        word = {True: "ok", False: "off", None: ""}[self.ok]
        return ": ".join(part for part in (word, self.said) if part)


def in_time(stage: str, cases: Sequence[Case], until: float, measure: Callable[[Case], Row]) -> Iterator[Row]:
    """A row for each case, and one for all that were not begun before `until`, a time of `time.monotonic`."""
    for done, case in enumerate(cases):
        if time.monotonic() >= until:
            yield Row(stage, f"{len(cases) - done} further cases", None, said="left out: the stage's time was up")
            return
        yield measure(case)


class Report:
    """surroundings: what the figures depend on. titles: of the stages."""

    def __init__(self, folder: Path, surroundings: Mapping[str, Any], titles: Mapping[str, str]) -> None:
        self.folder, self.surroundings, self.titles = folder, dict(surroundings), titles
        self.rows: list[Row] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, row: Row) -> None:
        """Prints and keeps it."""
        self.rows.append(row)
        figures = ", ".join(f"{name} {written(value)}" for name, value in row.figures.items() if value is not None)
        print(f"[{row.stage}] {row.name}: {'; '.join(part for part in (figures, row.verdict) if part)}", flush=True)
        content = {"surroundings": self.surroundings, "rows": [_plain(asdict(row)) for row in self.rows]}
        _replace(self.folder / "gpu_check.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def write_tables(self) -> str:
        """As Markdown, one for each stage; returns the text."""
        facts = ", ".join(f"{name} {value}" for name, value in self.surroundings.items())
        text = f"{facts}\n\n{self.summary()}\n"
        for stage, title in self.titles.items():
            if rows := [row for row in self.rows if row.stage == stage]:
                text += f"\n**{title}**\n\n{table(rows)}\n"
        _replace(self.folder / "gpu_check.md", text)
        return text

    def summary(self) -> str:
        counts = [sum(row.ok is value for row in self.rows) for value in (True, False, None)]
        return "{} rows ok, {} off, {} with nothing to hold or left out.".format(*counts)

    @property
    def failed(self) -> bool:
        return any(row.ok is False for row in self.rows)


def table(rows: Sequence[Row]) -> str:
    """Markdown; a column for every figure that any of the rows has."""
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    lines = [["", *columns, "verdict"], ["---"] * (len(columns) + 2)]
    lines += [[row.name, *(written(row.figures.get(name)) for name in columns), row.verdict] for row in rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |" for cells in lines)


def written(value: float | str | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.3g}"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity, and no other value that is no number."""
    infinite = {name for name, value in row["figures"].items() if isinstance(value, float) and not math.isfinite(value)}
    return {**row, "figures": row["figures"] | dict.fromkeys(infinite)}


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
