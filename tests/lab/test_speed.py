"""The speed benchmark: its arithmetic, and end to end on the smallest models."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from families.build import unet_shapes
from preparation.by_place import ROOT

from lab.commands.speed import SIZES as SIZE_NAMES
from lab.speed import core_nodes, ours, peers, results
from lab.speed.comparisons import BY_NAME, COMPARISONS, time_limit
from lab.speed.measuring import Outcome, Record
from lab.speed.sizes import SIZES
from lab.speed.task import Task

TASK = Task("ours:core", "core", "small", 128, 1, "/nowhere")
COMPARED = ("core", "textual-inversion", "attndreambooth-1", "attndreambooth-2", "attndreambooth-3", "finetune")
ON_SDXL = ("core", "textual-inversion", "finetune")


def record(processor: list[float], seconds: list[float], peak: int, loss: float = 1.0) -> Record:
    return Record(seconds, processor, [peak] * len(seconds), loss)


def outcome(name: str = "core", device: str = "cpu") -> Outcome:
    ours = record([1.0, 9.0, 1.2], [4.0, 4.0, 4.0], 300)
    other = record([2.0, 2.4, 2.4], [5.0, 5.0, 5.0], 600, loss=1.001)
    return Outcome(BY_NAME[name], replace(TASK, device=device), ours, other)


def test_medians_are_of_processor_time_on_cpu_and_clock_on_gpu():
    assert outcome().time_ratio == pytest.approx(1.2 / 2.4)
    assert outcome(device="cuda").time_ratio == pytest.approx(0.8)
    assert outcome().memory_ratio == pytest.approx(0.5)
    assert outcome().loss_difference == pytest.approx(0.001, rel=0.01)


def test_a_row_says_whether_both_limits_hold(monkeypatch):
    monkeypatch.setattr(results, "surroundings", lambda _: {"commit": "abc"})
    row = results.row_of(outcome())  # 0.5 and 0.5, allowed 0.55 and 0.6
    assert (row["time_ratio"], row["memory_ratio"], row["reached"], row["commit"]) == ("0.500", "0.500", "yes", "abc")
    assert results.row_of(outcome(device="cuda"))["reached"] == "no"
    assert results.row_of(outcome("test-time"))["reached"] == "yes"


def test_the_chart_of_a_comparison_without_limits_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "surroundings", lambda _: {})
    rows = [results.row_of(outcome(name)) for name in ("test-time", "core-own")]
    results.draw_chart(rows, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 0


def test_limits_differ_by_size_where_the_work_does():
    assert time_limit(BY_NAME["core"], "sd21") == 0.55
    assert time_limit(BY_NAME["core"], "sd21-256") == 0.88


def test_the_command_names_the_sizes_that_there_are():
    assert tuple(SIZES) == SIZE_NAMES


@pytest.mark.parametrize(("size", "millions"), [("sd15", 859.52), ("sd21", 865.91), ("sdxl", 2567.46)])
def test_full_sizes_have_as_many_weights_as_the_published_models(size, millions):
    sizes = {name: shape for name, shape in unet_shapes(SIZES[size].family)}
    count = 0
    for shape in sizes.values():
        numbers = 1
        for length in shape:
            numbers *= length
        count += numbers
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


def test_every_comparison_names_subjects_that_exist():
    known = {"ours": ours.SUBJECTS, "peers": peers.SUBJECTS, "core_nodes": core_nodes.SUBJECTS}
    for comparison in COMPARISONS:
        for subject in (comparison.ours, comparison.other):
            who, _, work = subject.partition(":")
            assert work in known[who]


@pytest.mark.host
@pytest.mark.parametrize(
    ("size", "compared"),
    [
        ("tiny", COMPARED[:1]),
        pytest.param("tiny", COMPARED[1:], marks=pytest.mark.long),
        pytest.param("sdxl-small", ON_SDXL, marks=pytest.mark.long),
    ],
)
def test_both_sides_do_the_same_work(tmp_path: Path, comfyui_path: Path, size: str, compared: tuple[str, ...]):
    """The first losses of ours and of the peers agree, for every method; and the files are there."""
    words = ["--size", size, "--precision", "fp32", "--repetitions", "1", "--output", str(tmp_path), "--works"]
    done = subprocess.run(
        [sys.executable, "-m", "lab", "speed", *words, *compared], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["work"] for row in rows] == list(compared)
    assert all(float(row["first_loss_difference"]) < 1e-4 for row in rows)
    assert all(row["commit"] and row["hardware"] and row["torch"] for row in rows)
    assert (tmp_path / "ratios.png").stat().st_size > 0
