"""python -m lab: says quickly what there is, and prepares a ComfyUI where none is named."""

from __future__ import annotations

import subprocess
import sys

from preparation.by_place import ROOT

from lab import __main__ as command
from lab.commands import quality
from lab.quality.protocol import PROTOCOLS

LIGHT = """
import sys, lab.__main__
assert "torch" not in sys.modules
assert sys.path[-1] in ("", r"{root}")
"""


def test_every_command_is_known_without_torch():
    light = LIGHT.format(root=ROOT)
    for words in (["-c", light], ["-m", "lab", "--help"]):
        done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in command.COMMANDS)


def test_without_comfyui_path_the_command_runs_in_a_prepared_one(monkeypatch):
    asked = []
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(command, "run_prepared", lambda _modules, words, folder: asked.append((words, folder)) or 3)
    monkeypatch.setattr(sys, "argv", ["lab", "quality", "report"])
    assert command.main() == 3
    assert asked == [(["-m", "lab", "quality", "report"], ROOT)]


def test_the_command_names_the_protocols_that_there_are():
    assert tuple(PROTOCOLS) == quality.PROTOCOLS
