"""Another program in place of this one: its output, its exit status, and its own answer to Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_in_foreground(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    process = subprocess.Popen(command, cwd=folder, env=environment)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while process.poll() is None:
        # Ctrl-C reaches the program too, which tidies up and ends by itself.
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
    return process.returncode
