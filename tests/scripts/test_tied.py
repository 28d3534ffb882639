"""A program that scripts/driver/tied.py runs ends with whoever started it."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
from driver.server import TIED

STARTER = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE); time.sleep(60)"


def test_it_ends_when_its_starter_is_killed(tmp_path):
    program, note = tmp_path / "long.py", tmp_path / "pid"
    noted = "import os, pathlib, sys, time\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
    program.write_text(noted + "time.sleep(60)")
    starter = subprocess.Popen([sys.executable, "-c", STARTER, sys.executable, str(TIED), str(program), str(note)])
    while not (note.is_file() and note.read_text()):
        time.sleep(0.05)
    tied = psutil.Process(int(note.read_text()))
    assert tied.is_running() and starter.poll() is None
    starter.kill()
    starter.wait()
    tied.wait(timeout=10)
