"""The demo's checkpoint, built on the spot from what the repository holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from preparation.errors import PreparationError
from preparation.installation import ROOT

# The mini world's checkpoint, expanded from the core that the repository holds; the destination is added.
BUILD_COMMAND, SOURCES = ("-m", "lab", "world", "expand"), ("lab/world", "lab/assets/world")


def provide_checkpoint(destination: Path) -> None:
    """Writes the checkpoint, unless it is there and nothing it is built from is newer."""
    sources = [file for folder in SOURCES for file in (ROOT / folder).rglob("*") if file.is_file()]
    newest = max((file.stat().st_mtime for file in sources), default=0.0)
    if destination.exists() and destination.stat().st_mtime >= newest:
        return
    # Beside the folder that ComfyUI lists, so that half a file is never offered as a model.
    partial = destination.parent.parent / f"partial-{destination.name}"
    built = subprocess.run([sys.executable, *BUILD_COMMAND, str(partial)], cwd=ROOT, capture_output=True, text=True)
    if built.returncode:
        partial.unlink(missing_ok=True)
        raise PreparationError(f"The checkpoint could not be built: {(built.stderr or built.stdout).strip()[-1500:]}")
    partial.replace(destination)
