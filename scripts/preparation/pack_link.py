"""This pack inside a custom_nodes folder: a link where the system allows it, else a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PACK_FOLDER = "core-personalization"
NOT_COPIED = (".*", "__pycache__", "demo-output", "fleet-output", "tests", "lab", "fleet")


def place_pack(pack: Path, custom_nodes: Path) -> Path:
    """Makes `pack` visible to ComfyUI and returns where. A copy is renewed on every call."""
    custom_nodes.mkdir(parents=True, exist_ok=True)
    place = custom_nodes / PACK_FOLDER
    if place.exists() and place.resolve() == pack.resolve():
        return place
    remove_pack(place)
    if not _link(pack, place):
        shutil.copytree(pack, place, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return place


def remove_pack(place: Path) -> None:
    """Removes a link, a junction or a copy, never what a link leads to."""
    if place.is_symlink():
        place.unlink()
    elif place.exists() and place.resolve() != place.parent.resolve() / place.name:
        place.rmdir()  # A Windows junction: rmdir takes the junction away and leaves its target.
    elif place.exists():
        shutil.rmtree(place)


def _link(pack: Path, place: Path) -> bool:
    try:
        place.symlink_to(pack, target_is_directory=True)
    except OSError:
        return os.name == "nt" and _junction(pack, place)
    return True


def _junction(pack: Path, place: Path) -> bool:
    """Windows lets everybody make junctions, but symbolic links only administrators and developers."""
    made = subprocess.run(["cmd", "/c", "mklink", "/J", str(place), str(pack)], capture_output=True)
    return made.returncode == 0
