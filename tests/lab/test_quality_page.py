"""The tables of docs/results.md and docs/quality.md hold what the CSV files hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest
from preparation.by_place import ROOT

from lab.quality import records
from lab.quality.drawing import Run
from lab.quality.judging import Scored
from lab.quality.methods import ALL, ALONE, FAST, LORA, METHODS, NONE
from lab.quality.protocol import EVIDENCE
from lab.quality.strengths import LOSSES, remaining
from lab.quality.summary import SCORES, Line, summarized

PAGES = [ROOT / "docs" / f"{name}.md" for name in ("results", "quality")]
RESULTS = ROOT / "lab" / "quality" / "results"
PROTOCOLS = {
    "The table": ("evidence", "biased"),
    "How strong the regularizers should be": ("strength", "diverse"),
    "Strength with biased references": ("strength", "biased"),
    "Where a LoRA or the U-Net follows, biased references": ("strength", "biased"),
    "Where a LoRA or the U-Net follows, diverse references": ("strength", "diverse"),
    "Twelve concepts": ("coat", "diverse"),
    "The quick start": ("quick_start", "diverse"),
    "What each part of CoRe does": ("evidence", "biased"),
    "Every method's embedding": ("methods", "diverse"),
    "The U-Net after it": ("methods", "diverse"),
    "All on the same beach": ("captions", "beach"),
    "All with the same hat": ("captions", "hat"),
    "All with sunglasses": ("captions", "sunglasses"),
    "All painted": ("captions", "painting"),
}
"""Heading → protocol and references of the rows under it."""
TIMED = "How many steps an embedding needs"

CALLED = {
    "CoRe, shares .1": "CoRe, stage 1",
    "CoRe fast, shares .1": "CoRe fast, stage 1",
    "CoRe, whole U-Net": "CoRe, shares 0.1",
    "AttnDreamBooth stage 1": "AttnDreamBooth, stage 1",
    "Cross Initialization, rate .05": "Cross Initialization, rate 0.05, stage 1",
}
"""Rows by names of their own → methods."""


def rows() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Heading above, label ("A against B" where it is a difference) and cells by score, of every row with scores."""
    heading, head = "", None
    for line in "\n".join(page.read_text("utf-8") for page in PAGES).splitlines():
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if line.startswith("##"):
            heading = line.strip("# ")
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = cells
        elif heading != TIMED and set(head) & set(SCORES) and not set(cells[0]) <= {"-"}:
            yield heading, cells[0].removesuffix(", paired"), dict(zip(head[1:], cells[1:], strict=True))


@cache
def lines(protocol: str) -> dict[tuple[str, str], Line]:
    scored = records.read(RESULTS / f"{protocol}_pictures.csv.gz", Scored)
    return {(line.references, line.method): line for line in summarized(scored, list(METHODS))}


@cache
def runs(protocol: str) -> list[Run]:
    return records.read(RESULTS / f"{protocol}_runs.csv", Run)


def method_of(label: str) -> str:
    label = CALLED.get(label, label)
    after_unet = f"CoRe, {label.removesuffix(', U-Net')}" if label.endswith(", U-Net") else ""
    names = (after_unet, label, f"{label}, stage 1", f"CoRe, {label}, stage 1", f"CoRe, {label}")
    return next(name for name in names if name in METHODS)


def stage_of(method: str) -> str:
    return next((stage for stage in (ALONE, LORA) if method.endswith(stage)), "")


def test_steps_and_times_are_as_measured():
    _, section = PAGES[1].read_text("utf-8").split(f"## {TIMED}\n")
    shown = [re.findall(r"[^|]+", line) for line in section.split("\n## ")[0].splitlines() if line.startswith("|")][2:]
    measured = [re.findall(r"[^|]+", line) for line in (RESULTS / "times.md").read_text("utf-8").splitlines()[2:]]
    for own, (method, rate, _, *numbers) in zip(shown, measured, strict=True):
        assert [cell.strip() for cell in own[:2]] == [method.strip(), rate.strip()]
        assert [float(cell) for cell in own[2:]] == [float(number) for number in numbers]


@pytest.mark.parametrize(("heading", "label", "cells"), list(rows()))
def test_a_row_is_as_measured(heading: str, label: str, cells: dict[str, str]):
    protocol, references = PROTOCOLS[heading]
    label, _, baseline = label.partition(" against ")
    method = method_of(label)
    line = lines(protocol)[references, method]
    if "n" in cells:
        assert int(cells.pop("n")) == line.pictures
    for name, cell in cells.items():
        if not cell:  # no difference from itself
            assert label.startswith(name.partition(" against ")[2])
            continue
        mean, *interval = (float(number.replace("−", "-")) for number in re.findall(r"[−+]?\d*\.\d+", cell))
        if name in LOSSES:
            own = [run for run in runs(protocol) if (run.method, run.references) == (method, references)]
            assert mean == pytest.approx(remaining(own, runs(protocol), LOSSES[name]), abs=6e-3), name
            continue
        score, _, other = name.partition(" against ")
        other = other and f"{NONE}{stage_of(method)}"
        compared = line.differences[baseline or other] if baseline or other else line.scores
        estimate = compared[score]
        assert mean == pytest.approx(estimate.mean, abs=6e-4), name
        assert (interval or [mean, mean]) == pytest.approx([estimate.low, estimate.high], abs=6e-3), name


def test_each_method_has_the_rate_that_its_search_found():
    """By the rule of docs/results.md: faithful times identity."""
    rows = records.read(RESULTS / "search_pictures.csv.gz", Scored)
    found = {line.method: line.scores for line in summarized(rows, list(ALL))}
    for name, part in EVIDENCE.found.items():
        searched = FAST if name == "CoRe" else name
        of_rate = {rate: found[f"{searched}, rate {rate}"] for rate in (0.25, 0.5, 1.0)}
        products = {rate: scores["faithful"].mean * scores["identity"].mean for rate, scores in of_rate.items()}
        assert max(products, key=products.__getitem__) == part, name
