"""Two concepts in one LoRA: the figures of the measurement, and its table in docs/quality.md."""

from __future__ import annotations

import re

import pytest
import torch
from preparation.by_place import ROOT

from lab.quality import pairs, records
from lab.quality.pairs import ALONE, BOTH, PLAIN, TOGETHER, PairRow, part_left, table

RESULTS = ROOT / "lab" / "quality" / "results"


def rows_of(how: str, concept: str, values: list[float]) -> list[PairRow]:
    return [PairRow("striped-cat and striped-vase", how, concept, "a", i, v, 1, 1) for i, v in enumerate(values)]


def test_what_is_left_is_the_ratio_of_means_within_its_interval():
    alone = torch.tensor([0.5, 0.6, 0.7, 0.8])
    part, low, high = part_left(alone, 0.9 * alone)
    assert (part, low, high) == pytest.approx((0.9, 0.9, 0.9))
    part, low, high = part_left(alone, torch.tensor([0.4, 0.8, 0.5, 0.9]))
    assert low < part < high


def test_the_table_compares_each_with_its_own():
    rows = []
    for concept in ("striped-cat", "striped-vase"):
        rows += rows_of(ALONE, concept, [0.8, 0.6]) + rows_of(TOGETHER, concept, [0.6, 0.4])
        rows += rows_of(BOTH, concept, [0.1]) + rows_of(PLAIN, concept, [0.1])
    assert "| striped-cat | 2 | 0.700 | 0.500 | 0.714" in table(rows)


def test_the_page_has_the_table_that_was_measured():
    page = (ROOT / "docs" / "quality.md").read_text("utf-8")
    part = page.partition("## Two concepts in one LoRA\n")[2].partition("\n## ")[0]
    shown = [re.findall(r"[^|]+", line) for line in part.splitlines() if line.startswith("| ")]
    measured = table(records.read(RESULTS / "pairs.csv", PairRow))
    lines = [re.findall(r"[^|]+", line) for line in measured.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 * (2 + 2 * len(pairs.PAIRS))
    assert shown == lines
