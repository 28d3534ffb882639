"""The tests in every_set_up, in a ComfyUI that was started otherwise: what that decides is fixed for a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from families.dynamic_vram import DYNAMIC_VRAM
from preparation.by_place import ROOT


@pytest.mark.parametrize(
    "option", [DYNAMIC_VRAM, *(pytest.param(option, marks=pytest.mark.long) for option in ("--novram", "--gpu-only"))]
)
def test_everything_holds_with(option):
    folder = Path(__file__).parent / "every_set_up"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "--tb=short", str(folder)]
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**alone, "COMFYUI_OPTIONS": option},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
