"""Rows of a dataclass as CSV, compressed where the name ends in .gz, and back; an empty field is None."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..comfyui import load_pack

Row = TypeVar("Row")
Scores = Mapping[str, Callable[[Any], float | None]]
"""Of a row, by name; None where one has no meaning."""


def write(file: Path, kind: type[Any], rows: Iterable[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(field.name for field in fields(kind))
    writer.writerows(astuple(row) for row in rows)
    content = stream.getvalue().encode()
    file.write_bytes(gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)


def read(file: Path, kind: type[Row]) -> list[Row]:
    hints = get_type_hints(kind)
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8", newline="") as stream:
        return [
            kind(**{name: _value(text, hints[name]) for name, text in row.items()}) for row in csv.DictReader(stream)
        ]


def report(file: Path, kind: type[Row], table: Callable[[list[Row]], str]) -> None:
    """The table of a CSV file's rows: printed, and written beside it as Markdown."""
    load_pack()
    text = table(read(file, kind))
    file.with_suffix(".md").write_text(text, "utf-8")
    print(text)


def _value(text: str, hint: Any) -> Any:
    if hint is str:
        return text
    if text == "":
        return None
    return int(text) if hint in (int, int | None) else float(text)
