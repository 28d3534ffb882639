"""Draws the pictures, under ComfyUI's Python. scripts/draw_pictures.py prepares and calls it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from driver import quick_start
from driver.base_folder import BaseFolder
from driver.client import ComfyUIClient
from driver.server import ComfyUIServer
from PIL import Image
from preparation.errors import PreparationError
from preparation.installation import HOST_FOLDER, ROOT

from .help_pages import HELP_PICTURES
from .runs import Runs
from .thumbnails import THUMBNAILS

HELP_FOLDER = ROOT / "web" / "docs" / "images"
MOST_BYTES = 60_000


def draw(names: Sequence[str], runs: Runs) -> None:
    for name in names:
        if name in THUMBNAILS:
            save(THUMBNAILS[name](runs), quick_start.TEMPLATES / f"{name}.jpg")
        else:
            save(HELP_PICTURES[name](runs), HELP_FOLDER / f"{name}.jpg")


def save(picture: Image.Image, file: Path) -> None:
    """As a JPEG as good as its size allows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for quality in range(92, 50, -6):
        picture.save(file, quality=quality, optimize=True, progressive=True)
        if file.stat().st_size <= MOST_BYTES:
            break
    print(f"{file.relative_to(ROOT)}: {picture.width}×{picture.height}, {file.stat().st_size // 1000} kB", flush=True)


def main(names: list[str]) -> int:
    known = [*THUMBNAILS, *HELP_PICTURES]
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"{', '.join(unknown)}: not among {', '.join(known)}", file=sys.stderr)
        return 1
    base = BaseFolder.make(HOST_FOLDER / "pictures")
    try:
        quick_start.fill_base_folder(base)
        with ComfyUIServer(Path(os.environ["COMFYUI_PATH"]), base) as server:
            draw(names or known, Runs(server, ComfyUIClient(server.address), base.path / "runs"))
    except PreparationError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
