"""The tables of docs/quality.md hold what the CSV files hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest
from preparation.by_place import ROOT

from lab.quality import records
from lab.quality.judging import Scored
from lab.quality.methods import METHODS
from lab.quality.summary import SCORES, Line, summarized

PAGE = ROOT / "docs" / "quality.md"
RESULTS = ROOT / "lab" / "quality" / "results"


def rows() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Heading above, label ("A against B" where it is a difference) and cells by score, of every row with scores."""
    heading, head = "", None
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if line.startswith("## "):
            heading = line[3:]
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = cells
        elif set(head) & set(SCORES) and not set(cells[0]) <= {"-"}:
            yield heading, cells[0].removesuffix(", paired"), dict(zip(head[1:], cells[1:], strict=True))


@cache
def lines() -> dict[tuple[str, str], Line]:
    scored = records.read(RESULTS / "reduced_pictures.csv", Scored)
    return {(line.references, line.method): line for line in summarized(scored, list(METHODS))}


@pytest.mark.parametrize(("heading", "label", "cells"), list(rows()))
def test_a_row_is_as_measured(heading: str, label: str, cells: dict[str, str]):
    method, _, baseline = label.partition(" against ")
    line = lines()[heading.removesuffix(" references").lower(), method]
    for name, cell in cells.items():
        estimate = line.differences[baseline][name] if baseline else line.scores[name]
        mean, *interval = (float(number.replace("−", "-")) for number in re.findall(r"[−+]?\d*\.\d+", cell))
        assert mean == pytest.approx(estimate.mean, abs=6e-4), name
        assert (interval or [mean, mean]) == pytest.approx([estimate.low, estimate.high], abs=6e-3), name
