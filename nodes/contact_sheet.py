"""Many pictures on one sheet, small, each with its name, size and caption below it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL, GAP, LINE, MOST_LINES = 220, 12, 17, 4
MOST_SHOWN = 24
OUTSIDE = 0.25
"""How bright a picture is where its mask leaves it out."""
_PAPER, _INK, _PALE, _FRAME = (24, 24, 27), (228, 228, 231), (161, 161, 170), (250, 204, 21)


@dataclass(frozen=True)
class Shown:
    """pixels: [H, W, 3] in 0…1. mask: [H, W], dark where 0."""

    pixels: Tensor
    mask: Tensor | None
    title: str
    caption: str


def contact_sheet(shown: Sequence[Shown], more: int = 0) -> Tensor:
    """[1, H, W, 3] in 0…1. more: pictures that the sheet has no room for. A frame: the square that "crop" leaves."""
    columns = min(len(shown), 2 if len(shown) == 4 else 3 if len(shown) <= 9 else 4)
    font = _font()
    letters = int(CELL / font.getlength("n"))
    texts = [_lines(each, letters) for each in shown]
    starts = range(0, len(shown), columns)
    heights = [CELL + 2 * GAP + LINE * max(map(len, texts[start : start + columns])) for start in starts]
    tops = [GAP, *(GAP + top for top in accumulate(heights))]
    foot = LINE + GAP if more else 0
    sheet = Image.new("RGB", (columns * (CELL + GAP) + GAP, tops[-1] + foot), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (each, lines) in enumerate(zip(shown, texts, strict=True)):
        left, top = GAP + index % columns * (CELL + GAP), tops[index // columns]
        small = _thumbnail(each)
        x, y = left + (CELL - small.width) // 2, top + (CELL - small.height) // 2
        sheet.paste(small, (x, y))
        side = min(small.size)
        if small.width != small.height:
            x, y = x + (small.width - side) // 2, y + (small.height - side) // 2
            draw.rectangle((x, y, x + side - 1, y + side - 1), outline=_FRAME)
        for number, line in enumerate(lines):
            draw.text((left, top + CELL + 2 + number * LINE), line, _PALE if number == 0 else _INK, font)
    if more:
        draw.text((GAP, sheet.height - LINE - GAP // 2), f"… and {more} more", _PALE, font)
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
