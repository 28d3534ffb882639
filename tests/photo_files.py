"""Files that people bring: photos of all kinds, made up."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours, no two alike."""
    colours = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=95, **options)
    return content.getvalue()


def rectangle(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """A mask: white inside the box."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, box)
    return mask


def photo_folder(folder: Path) -> Path:
    """Three pictures, one with a caption and one with a mask; and a file that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (width, height) in enumerate([(640, 480), (480, 640), (600, 600)], start=1):
        photo(width, height, seed=number).save(folder / f"cat-{number}.png")
    rectangle(640, 480, (100, 100, 300, 300)).save(folder / "cat-1.mask.png")
    (folder / "cat-2.txt").write_text("photo of sks cat in the snow")
    (folder / "notes.pdf").write_bytes(b"%PDF-1.4 no picture")
    return folder
