"""Another program in place of this one: its output, its exit status, and its own answer to Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import PreparationError
from .installation import prepare
from .timeline import Timeline


def run_prepared(
    modules: Sequence[str],
    words: Sequence[str],
    folder: Path,
    variables: Mapping[str, str] | None = None,
    comfyui: str | None = None,
) -> int:
    """Runs ComfyUI's Python, which must have `modules`, with `words`; both are prepared if need be.

    variables: of the environment, for this program and not for what prepares it. comfyui: as in `prepare`.
    Returns the exit status: 1, with the reason printed, where nothing could be prepared.
    """
    try:
        installation = prepare(Timeline(), modules, comfyui)
    except PreparationError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    environment = {**installation.environment(), **(variables or {})}
    return run_in_foreground([str(installation.python), *words], folder, environment)


def run_in_foreground(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    process = subprocess.Popen(command, cwd=folder, env=environment)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while process.poll() is None:
        # Ctrl-C reaches the program too, which tidies up and ends by itself.
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
    return process.returncode
