"""Many pictures on one sheet, small, each with its name, size and caption below it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..core_ops.pictures import USUAL_SIDE, Fit, fitted_size, part_kept

CELL, GAP, LINE, MOST_LINES = 220, 12, 17, 4
MOST_SHOWN = 24
OUTSIDE = 0.25
"""How bright a picture is where its mask leaves it out."""
LEGEND: Mapping[Fit, str] = {"keep": "□ fit = keep", "crop": "□ crop"}
"""Of the frames. "pad" leaves out nothing."""
_PAPER, _INK, _PALE = (24, 24, 27), (228, 228, 231), (161, 161, 170)
_FRAMES: Mapping[Fit, tuple[int, int, int]] = {"keep": (74, 222, 128), "crop": (250, 204, 21)}


@dataclass(frozen=True)
class Shown:
    """pixels: [H, W, 3] in 0…1. mask: [H, W], dark where 0."""

    pixels: Tensor
    mask: Tensor | None
    title: str
    caption: str


def contact_sheet(shown: Sequence[Shown], more: int = 0) -> Tensor:
    """[1, H, W, 3] in 0…1. more: pictures that the sheet has no room for. Frames: what "crop" and "keep" leave."""
    columns = min(len(shown), 2 if len(shown) == 4 else 3 if len(shown) <= 9 else 4)
    font = _font()
    letters = int(CELL / font.getlength("n"))
    texts = [_lines(each, letters) for each in shown]
    starts = range(0, len(shown), columns)
    heights = [CELL + 2 * GAP + LINE * max(map(len, texts[start : start + columns])) for start in starts]
    tops = [GAP, *(GAP + top for top in accumulate(heights))]
    oblong = any(each.pixels.shape[0] != each.pixels.shape[1] for each in shown)
    foot = LINE * (bool(more) + oblong) + GAP * (bool(more) or oblong)
    sheet = Image.new("RGB", (columns * (CELL + GAP) + GAP, tops[-1] + foot), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (each, lines) in enumerate(zip(shown, texts, strict=True)):
        left, top = GAP + index % columns * (CELL + GAP), tops[index // columns]
        small = _thumbnail(each)
        x, y = left + (CELL - small.width) // 2, top + (CELL - small.height) // 2
        sheet.paste(small, (x, y))
        if small.width != small.height:
            for fit, colour in _FRAMES.items():
                size = small.height, small.width
                down, right, high, wide = part_kept(size, fitted_size(size, USUAL_SIDE, fit))
                draw.rectangle((x + right, y + down, x + right + wide - 1, y + down + high - 1), outline=colour)
        for number, line in enumerate(lines):
            draw.text((left, top + CELL + 2 + number * LINE), line, _PALE if number == 0 else _INK, font)
    if more:
        draw.text((GAP, sheet.height - foot + GAP // 2), f"… and {more} more", _PALE, font)
    if oblong:
        x = float(GAP)
        for fit, colour in _FRAMES.items():
            draw.text((x, sheet.height - LINE - GAP // 2), LEGEND[fit], colour, font)
            x += font.getlength(f"{LEGEND[fit]}   ")
    return torch.from_numpy(np.asarray(sheet).astype(np.float32) / 255).unsqueeze(0)


def _lines(shown: Shown, letters: int) -> list[str]:
    """The title, its middle left out where it is long, and the caption."""
    title = shown.title
    if len(title) > letters:
        title = f"{title[: letters // 2 - 1]}…{title[-(letters // 2) :]}"
    return [title, *textwrap.wrap(shown.caption, letters, max_lines=MOST_LINES, placeholder=" …")]


def _thumbnail(shown: Shown) -> Image.Image:
    pixels = shown.pixels if shown.mask is None else shown.pixels * (OUTSIDE + (1 - OUTSIDE) * shown.mask.unsqueeze(-1))
    image = Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().numpy())
    scale = CELL / max(image.size)
    width, height = (max(1, round(edge * scale)) for edge in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """matplotlib's, which has Latin, Greek and Cyrillic letters; Pillow's own where it is missing."""
    try:
        import matplotlib

        return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 13)
    except (ImportError, OSError):
        return ImageFont.load_default(13)
