"""The archive that ComfyUI's registry gets, as comfy-cli makes it."""

from __future__ import annotations

import os
from pathlib import Path

import comfy_cli.file_utils

ROOT = Path(__file__).resolve().parents[1]


def pack_archive(folder: Path) -> Path:
    """What `comfy node pack` and `comfy node publish` make of this repository, as node.zip in a folder."""
    before = Path.cwd()
    os.chdir(ROOT)  # comfy-cli knows no other place.
    try:
        comfy_cli.file_utils.zip_files(str(folder / "node.zip"), includes=[])
    finally:
        os.chdir(before)
    return folder / "node.zip"
