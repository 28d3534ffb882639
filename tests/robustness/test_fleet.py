"""A fleet gives what one ComfyUI gives, bit for bit, whatever is killed meanwhile."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

pytest.importorskip("ray")

from robustness.fleet_of_jobs import KilledFleet, Studio, bits_of, two_nodes, wait_until

KINDS = ("worker", "ComfyUI", "node", "driver")
LONGEST_WAIT = 45
"""Seconds between two kills, at most: a ComfyUI starts in that time, and ends a job or two."""


@pytest.fixture(scope="module")
def studio(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio.opened(tmp_path_factory.mktemp("studio"), comfyui_path, count=3)


def test_jobs_survive_kills_and_ctrl_c_and_are_not_run_again(studio, tmp_path):
    with two_nodes() as cluster:
        fleet = KilledFleet(studio, cluster, tmp_path / "out", random.Random(1))
        fleet.start()
        for what in ("worker", "ComfyUI"):
            fleet.wait_for_a_state()
            fleet.kill(what)
        fleet.wait_for_a_state()
        assert fleet.stop() == 130, fleet.log.read_text()
        assert list(fleet.states()), "what was learned is kept"
        fleet.start()
        assert fleet.wait() == 0, fleet.log.read_text()
        assert bits_of(fleet.out) == studio.bits
        assert fleet.kills == ["worker", "ComfyUI"] and "lost on worker" in fleet.log.read_text()
        before = {file: file.stat().st_mtime_ns for file in fleet.out.glob("*/manifest.json")}
        fleet.start()
        assert fleet.wait() == 0
        assert {file: file.stat().st_mtime_ns for file in fleet.out.glob("*/manifest.json")} == before
        assert "3 jobs, 3 of them done before" in fleet.log.read_text()
    wait_until(lambda: not fleet.comfyuis())


@pytest.mark.long
def test_twenty_kills(comfyui_path, tmp_path):
    """A run that ends before it has met so many is followed by another."""
    studio = Studio.opened(tmp_path, comfyui_path, count=12)
    chance, kills, lines, rounds = random.Random(0), [], [], 0
    with two_nodes() as cluster:
        while len(kills) < 20:
            fleet = KilledFleet(studio, cluster, tmp_path / f"out-{rounds}", chance)
            began = time.monotonic()
            fleet.start()
            while len(kills) + len(fleet.kills) < 20:
                time.sleep(chance.uniform(5, LONGEST_WAIT))
                if fleet.is_over():
                    break
                fleet.kill(chance.choice(KINDS))
            assert fleet.wait() == 0, fleet.log.read_text()
            assert bits_of(fleet.out) == studio.bits, fleet.log.read_text()
            kills += fleet.kills
            rounds += 1
            lines.append(f"{len(fleet.kills)} kills in {time.monotonic() - began:.0f} s: {', '.join(fleet.kills)}")
    print(f"\n{len(kills)} kills in {rounds} runs of 12 jobs, all there once, with the same bits", *lines, sep="\n")
