"""The check for whoever has a card: what it says of what was found, and how it goes on after what fails."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from preparation.by_place import ROOT

from lab.commands.gpu import STAGES, add_arguments
from lab.gpu import correctness, memory, speed, unloading
from lab.gpu.check import SECONDS
from lab.gpu.process import Setup, Worker
from lab.gpu.rows import Report, Row, in_time, table
from lab.gpu.worker import told

WORKER = """
import json, sys, time
for line in sys.stdin:
    case = json.loads(line)
    if case["do"] == "end":
        sys.exit("it broke\\n\\nfor this reason")
    if case["do"] == "hang":
        time.sleep(60)
    print(json.dumps({"done": case["do"]}), flush=True)
"""
FP32 = {"family": "sd1", "training": "CoRe", "precision": "fp32"}
FULL_SIZE = {"size": "sd15", "side": 512, "training": "CoRe"}
STEP = {
    "title": "CoRe step / other", "time_ratio": 0.5, "time_limit": 0.55, "memory_ratio": 0.7, "memory_limit": 0.6,
    "loss_difference": 1e-3, "ours_seconds": 0.5, "other_seconds": 1.0, "ours_peak": 7.0, "other_peak": 10.0,
    "ours_operations": int(1e14), "other_operations": 0,
}  # fmt: skip


@pytest.fixture
def worker(tmp_path: Path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    with Worker(Setup("tested", str(tmp_path), small=True), [sys.executable, str(script)]) as running:
        yield running


def soon() -> float:
    return time.monotonic() + 30


def test_a_worker_that_ends_says_why_and_is_started_anew(worker: Worker):
    assert worker.ask({"do": "this"}, soon()) == {"done": "this"}
    assert worker.ask({"do": "end"}, soon()) == {"error": "the process ended by itself: for this reason"}
    assert worker.ask({"do": "that"}, soon()) == {"done": "that"}


def test_a_worker_is_not_waited_for_beyond_its_time(worker: Worker):
    began = time.monotonic()
    assert worker.ask({"do": "hang"}, began + 1)["late"]
    assert time.monotonic() - began < 10
    assert worker.ask({"do": "this"}, soon()) == {"done": "this"}


def test_cases_that_no_time_is_left_for_are_counted():
    row, cases = Row("speed", "one", True), [{}, {}, {}]
    assert list(in_time("speed", cases, soon(), lambda _: row)) == [row] * 3
    until = time.monotonic() + 0.5
    first, left_out = in_time("speed", cases, until, lambda _: time.sleep(1) or row)
    assert first == row
    assert left_out.ok is None and left_out.name == "2 further cases" and "time was up" in left_out.said


def test_every_row_is_on_disk_at_once_and_is_valid_json(tmp_path: Path):
    report = Report(tmp_path, {"hardware": "a card"}, {"speed": "Speed"})
    report.add(Row("speed", "one", True, {"ratio": 0.5}))
    assert len(read(tmp_path)["rows"]) == 1 and not report.failed
    report.add(Row("speed", "two", False, {"ratio": math.inf}, "too slow"))
    report.add(Row("speed", "three", None, said="left out"))
    assert [row["figures"].get("ratio") for row in read(tmp_path)["rows"]] == [0.5, None, None]
    assert report.failed and read(tmp_path)["surroundings"] == {"hardware": "a card"}
    assert "1 rows ok, 1 off, 1 with nothing" in report.write_tables()
    assert "| two | inf | off: too slow |" in (tmp_path / "gpu_check.md").read_text()


def read(folder: Path) -> dict:
    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    return json.loads((folder / "gpu_check.json").read_text(), parse_constant=refuse)


def test_a_table_has_a_column_for_every_figure_of_a_row():
    lines = table([Row("s", "a", True, {"x": 1.0}), Row("s", "b|c", None, {"y": "two"})]).splitlines()
    assert lines == ["|  | x | y | verdict |", "| --- | --- | --- | --- |", "| a | 1 |  | ok |", "| b¦c |  | two |  |"]


@pytest.mark.parametrize(
    ("losses", "expected", "ok", "said"),
    [
        ([1.0, 2.0], [1.0005, 2.0], True, ""),
        ([1.0, 2.0], [1.0, 2.01], False, "above 0.001"),
        ([1.0, math.nan], [1.0, 2.0], False, "not finite"),
        ([1.0], [1.0, 2.0], False, "above 0.001"),
    ],
)
def test_losses_are_held_to_the_cpus(losses, expected, ok, said):
    row = correctness.row_of(FP32, {"losses": losses}, {"losses": expected})
    assert (row.ok, row.said) == (ok, said)


def test_an_error_of_either_side_is_a_row_that_is_off():
    fine, broken = {"losses": [1.0]}, {"error": "ValueError: no"}
    assert correctness.row_of(FP32, fine, broken).said == "on the CPU: ValueError: no"
    for row in (correctness.row_of(FP32, broken, fine), speed.row_of({"work": "core"}, broken, 1.0)):
        assert row.ok is False and row.said == "ValueError: no"
    assert memory.row_of(FULL_SIZE, {**broken, "late": True}).ok is None


@pytest.mark.parametrize(("taken", "said"), [(9.0, ""), (8.4, "less than 0.85"), (10.1, "more than planned")])
def test_memory_is_held_to_the_plan_from_both_sides(taken, said):
    row = memory.row_of(FULL_SIZE, {"planned": 10.0, "taken": taken, "highest": 12.0})
    assert row.ok is (not said) and said in row.said


def test_what_a_training_says_of_its_memory_is_read():
    line = "needs about 4.25 GiB (weights 1.00 GiB, step 3.25 GiB), found 9.00 GiB on cuda:0, took 3.98 GiB"
    assert memory.planned_and_taken(type("Run", (), {"memory": line})) == (4.25, 3.98)
    with pytest.raises(ValueError, match="does not say"):
        memory.planned_and_taken(type("Run", (), {"memory": "something else"}))


def test_a_step_has_its_share_of_the_matrix_rate_and_its_limits():
    row = speed.row_of({"work": "core"}, STEP, rate=4e14)
    assert row.figures["ours, share of the rate"] == pytest.approx(0.5)
    assert row.figures["other's share"] is None, "nothing was counted"
    assert row.ok is False and row.said == "memory ratio is above its limit"


def test_memory_that_stays_and_trainings_that_fail_are_named():
    answer = {"trained": 300.0, "left": 0.0, "in_use": 8.0, "failed": []}
    on = {"dynamic_vram": True}
    assert unloading.row_of(on, answer).ok
    row = unloading.row_of(on, {**answer, "left": 1.0, "failed": ["LoRA: no"]})
    assert row.ok is False and row.said == "LoRA: no; not all was given back"
    assert unloading.row_of(on, {"error": f"RuntimeError: {unloading.NO_DYNAMIC_VRAM}"}).ok is None


def test_an_error_is_told_in_one_line_with_its_place():
    try:
        table(None)  # type: ignore[arg-type]
    except TypeError as error:
        assert told(error).startswith("TypeError: ") and "(lab/gpu/rows.py:" in told(error)
    assert told(RuntimeError("a child ended:\n  at line 3\n  at line 4\nOutOfMemory: no room\n")).endswith(
        "a child ended: … OutOfMemory: no room"
    )


def test_every_stage_can_be_chosen_and_all_take_under_8_minutes():
    assert tuple(SECONDS) == STAGES and sum(SECONDS.values()) < 8 * 60
    for name in STAGES:
        stage = importlib.import_module(f"lab.gpu.{name}")
        assert stage.TITLE and callable(stage.rows) and callable(stage.prepared)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args(["--only", "speed"]).only == ["speed"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--only", "everything"])


@pytest.mark.host
def test_without_a_card_it_says_so_in_a_sentence(comfyui_path: Path, tmp_path: Path):
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), "--output", str(tmp_path / "found")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "LD_PRELOAD": ""}
    )
    assert done.returncode == 1 and not (tmp_path / "found").exists()
    assert done.stderr.startswith("No CUDA device was found: ") and len(done.stderr.splitlines()) == 1
