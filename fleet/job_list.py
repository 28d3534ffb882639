"""A list of jobs as it stands in a file: CSV or JSON Lines, a row a job, a column an input of the workflow."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "job"
"""The column with a job's name."""
_PLAIN = re.compile(r"\w[\w.-]{0,79}(?<!\.)")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_RESERVED |= {"scores", "gallery"}  # what `fleet collect` writes beside the jobs
LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Fault:
    """What is wrong with a list. row: as a spreadsheet or an editor counts, from 1; None for the list as a whole."""

    row: int | None
    column: str | None
    message: str

    def __str__(self) -> str:
        place = [f"row {self.row}"] * (self.row is not None) + [f"column {shown(self.column)}"] * bool(self.column)
        return ": ".join([", ".join(place), self.message] if place else [self.message])


class FaultyList(ValueError):
    """All faults of a list at once."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True)
class Row:
    """given: by column, what is not left empty; texts where the list is CSV, else as JSON has them."""

    number: int
    name: str
    given: Mapping[str, Any]


@dataclass(frozen=True)
class JobList:
    """texts: the values are texts, as in CSV, whatever they mean."""

    columns: tuple[str, ...]
    rows: list[Row]
    faults: list[Fault]
    texts: bool


def shown(value: Any) -> str:
    """In one short line."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def read_list(path: Path) -> JobList:
    """Raises FaultyList for what is no list at all; what can be read goes on with its faults."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FaultyList([Fault(None, None, f"{path} cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise FaultyList([Fault(None, None, f"{path} is not text in UTF-8 (byte {error.start})")]) from error
    faults: list[Fault] = []
    of_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json")
    raw = list(_json_rows(text, faults) if of_json else _csv_rows(text, faults))
    rows = list(_named(raw, faults))
    if not raw and not faults:
        faults.append(Fault(None, None, f"{path} holds no job"))
    columns = dict.fromkeys(column for _, given in raw for column in given if column != NAME)
    return JobList(tuple(columns), rows, faults, texts=not of_json)


def _csv_rows(text: str, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    # strict: a quotation mark that is never closed would take the rest of the list into one cell.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number, header = 0, None
    try:
        for number, cells in enumerate(reader, 1):
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_header(header, faults)
            elif any(cell.strip() for cell in cells):
                if len(cells) != len(header):
                    faults.append(Fault(number, None, f"got {len(cells)} cells for {len(header)} columns"))
                yield number, {name: cell for name, cell in zip(header, cells, strict=False) if cell.strip()}
    except csv.Error as error:
        faults.append(Fault(number + 1, None, f"is no row of CSV ({error})"))


def _check_header(header: list[str], faults: list[Fault]) -> None:
    if NAME not in header:
        faults.append(Fault(1, None, f"there is no column {NAME!r}, which names the jobs"))
    for place, name in enumerate(header, 1):
        if not name:
            faults.append(Fault(1, None, f"column {place} has no name"))
        elif name in header[: place - 1]:
            faults.append(Fault(1, name, "is there twice"))


def _json_rows(text: str, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(number, None, f"is no JSON ({error})"))
            continue
        if not isinstance(pairs, _Pairs):
            faults.append(Fault(number, None, 'is no JSON object, such as {"job": "my-cat"}'))
            continue
        names = [name for name, _ in pairs]
        for name in sorted({name for name in names if names.count(name) > 1}):
            faults.append(Fault(number, name, "is there twice"))
        yield number, {name: value for name, value in pairs if value is not None}


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as often as they are there."""


def _named(raw: list[tuple[int, dict[str, Any]]], faults: list[Fault]) -> Iterator[Row]:
    first: dict[str, int] = {}
    for number, given in raw:
        name = given.get(NAME)
        name = name.strip() if isinstance(name, str) else name
        if name is None or name == "":
            faults.append(Fault(number, NAME, "the job has no name"))
        elif not isinstance(name, str) or not _PLAIN.fullmatch(name) or name.split(".")[0].lower() in _RESERVED:
            said = f"{shown(name)} cannot name a folder; take letters, digits, '-', '_' and '.', at most 80"
            faults.append(Fault(number, NAME, said))
        elif name.casefold() in first:
            faults.append(Fault(number, NAME, f"{shown(name)} is the job of row {first[name.casefold()]} already"))
        else:
            first[name.casefold()] = number
        yield Row(number, str(name), {column: value for column, value in given.items() if column != NAME})
