"""Tables and curve of the regularizers' strengths."""

from __future__ import annotations

import dataclasses

import pytest

from lab.quality import drawing
from lab.quality import strengths as module
from lab.quality.judging import Scored
from lab.quality.methods import ALONE, LORA, METHODS, NONE, STRENGTHS
from lab.quality.protocol import COAT, QUICK_START, STRENGTH, Cell, cells
from lab.quality.strengths import curve, series, strengths
from lab.quality.subjects import DIVERSE, Thing
from lab.quality.summary import summarized

CONCEPTS = ("striped-cat", "split-bear", "striped-vase", "split-backpack")
SHARE = f"CoRe, shares 0.1{ALONE}"
FALLS = (0.5, 0.6, 0.7, 0.8)


def a_row(method: str, concept: str, index: int, identity: float) -> Scored:
    return Scored(method, concept, DIVERSE, 0, index, 2, 1, 1, None, 0, identity, 0.5, 0.5, 0.25)


def a_run(method: str, concept: str, **more: float) -> drawing.Run:
    run = drawing.Run(method, concept, DIVERSE, 0, 2, 60.0, 30.0, 1.5, 0.0, 0.0, "abc", "a CPU", 0.0, 0.0, 0.2, 1e-4)
    return dataclasses.replace(run, **more)


@pytest.fixture
def measured() -> tuple[list[Scored], list[drawing.Run]]:
    rows, runs = [], []
    for concept, fall in zip(CONCEPTS, FALLS, strict=True):
        rows += [a_row(f"{NONE}{ALONE}", concept, i, 0.6) for i in range(2)]
        rows += [a_row(SHARE, concept, i, 0.7) for i in range(2)]
        runs.append(a_run(f"{NONE}{ALONE}", concept))
        more = {"averaged_emb": 1 - fall, "share_emb": fall, "averaged_attn": fall, "share_attn": fall}
        runs.append(a_run(SHARE, concept, loss_emb=0.2 * fall, loss_attn=1e-4 * fall, **more))
    return rows, runs


def test_a_strength_is_told_by_what_is_left_of_the_terms_and_paired_with_none(measured):
    rows, runs = measured
    text = strengths(summarized(rows, list(METHODS)), runs)
    assert "### Diverse references, the embedding alone" in text
    line = next(line for line in text.splitlines() if line.startswith(f"| {SHARE} "))
    assert "| 0.65 | 0.65 |" in line and "0.650, 0.650 | 0.350, 0.650" in line
    assert line.endswith("| +0.100 [+0.10, +0.10] |")


def test_the_measure_that_goes_with_the_fall_is_seen(measured):
    rows, runs = measured
    stronger = [run for run in runs if run.method == SHARE and run.concept in CONCEPTS[2:]]
    runs = [dataclasses.replace(run, method=f"CoRe, shares 0.2{ALONE}") if run in stronger else run for run in runs]
    text = strengths(summarized(rows, list(METHODS)), runs)
    assert "share of averaged gradients | 1.00 |" in text and "share of single gradients | -1.00 |" in text


def test_other_protocols_have_neither_table_nor_curve(measured):
    lines = summarized([row for row in measured[0] if row.method == SHARE], list(METHODS))
    assert not series(lines) and strengths(lines, measured[1]) == ""


def test_the_curve_is_a_picture(measured, tmp_path):
    curve(summarized(measured[0], list(METHODS)), tmp_path / "curve.webp")
    assert (tmp_path / "curve.webp").stat().st_size > 5_000


def test_a_strength_of_fewer_concepts_is_not_on_it(measured, tmp_path, monkeypatch):
    drawn: list[str] = []
    real = module._draw

    def noted(axes, along, *more):
        drawn.extend(line.method for line in along)
        real(axes, along, *more)

    monkeypatch.setattr(module, "_draw", noted)
    partial = [a_row(f"CoRe, shares 0.3{ALONE}", CONCEPTS[0], i, 0.9) for i in range(2)]
    curve(summarized([*measured[0], *partial], list(METHODS)), tmp_path / "curve.webp")
    assert drawn == [f"{NONE}{ALONE}", SHARE]


def test_each_strength_is_run_once_alone_once_with_stage_2_and_once_with_a_lora():
    names = {cell.method.name for cell in cells(STRENGTH)}
    assert names == {f"{name}{stage}" for name in STRENGTHS for stage in (ALONE, "", LORA)}
    for protocol in (STRENGTH, QUICK_START, COAT):
        assert len({cell.file_name for cell in cells(protocol)}) == len(list(cells(protocol)))


def test_none_weighs_nothing_and_the_rest_is_the_same():
    none = Cell(METHODS[f"{NONE}{ALONE}"], Thing("striped-cat"), DIVERSE, 0).method
    assert none.embedding == {"method": "CoRe", "embedding_weight": 0.0, "attention_weight": 0.0}
    assert not none.finetunes and METHODS[NONE].finetunes
