"""A command of this folder, started again in the Python that has ComfyUI's requirements."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(module: str) -> int:
    """Prepares ComfyUI if need be and runs `module` in it, with this command's words; returns its exit status."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from preparation.foreground import run_prepared
    from preparation.installation import TEST_MODULES

    paths = os.pathsep.join(str(ROOT / folder) for folder in ("benchmarks", "scripts", "tests"))
    return run_prepared(TEST_MODULES, ["-m", module, *sys.argv[1:]], Path.cwd(), {"PYTHONPATH": paths})
