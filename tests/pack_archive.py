"""The archive that ComfyUI's registry gets, as comfy-cli makes it."""

from __future__ import annotations

import os
import subprocess
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


def untracked(*folders: str) -> list[str]:
    """Files there that git neither has nor ignores; none where there is no git."""
    command = ["git", "-C", str(ROOT), "ls-files", "--others", "--exclude-standard", "--", *folders]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()
