"""scripts/gpu_check.py as a user starts it, on the card that there is, with tiny models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from preparation.by_place import ROOT

pytestmark = [pytest.mark.gpu, pytest.mark.host]
STAGES = ("correctness", "memory", *(pytest.param(name, marks=pytest.mark.long) for name in ("speed", "unloading")))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_finds_nothing_off_on_tiny_models(stage: str, comfyui_path: Path, tmp_path: Path):
    words = ["--small", "--only", stage, "--output", str(tmp_path / "found")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), *words], capture_output=True, text=True
    )
    found = json.loads((tmp_path / "found" / "gpu_check.json").read_text("utf-8"))
    assert {row["stage"] for row in found["rows"]} == {stage}
    off = [f"{row['name']}: {row['said']}" for row in found["rows"] if row["ok"] is False]
    assert not off and done.returncode == 0, (off, done.stderr[-2000:])
    assert any(row["ok"] for row in found["rows"]), "nothing was left out altogether"
    assert found["surroundings"]["hardware"]
    for row in found["rows"]:
        assert row["name"] in (tmp_path / "found" / "gpu_check.md").read_text("utf-8")
