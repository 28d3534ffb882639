"""A command of this folder, started again in the Python that has ComfyUI's requirements."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(module: str) -> int:
    """Prepares ComfyUI if need be and runs `module` in it, with this command's words; returns its exit status."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from preparation.errors import PreparationError
    from preparation.foreground import run_in_foreground
    from preparation.installation import TEST_MODULES, prepare
    from preparation.timeline import Timeline

    try:
        installation = prepare(Timeline(), TEST_MODULES)
    except PreparationError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("benchmarks", "scripts", "tests"))
    command = [str(installation.python), "-m", module, *sys.argv[1:]]
    return run_in_foreground(command, Path.cwd(), {**installation.environment(), "PYTHONPATH": paths})
