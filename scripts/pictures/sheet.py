"""Rows of pictures with words above them, on one dark sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

BACKGROUND, PANEL = (22, 24, 29), (38, 42, 51)
TEXT, ACCENT = (214, 218, 226), (240, 180, 84)
MARGIN, GAP, RADIUS = 12, 8, 8
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def font(size: int, bold: bool = False, mono: bool = False) -> ImageFont.FreeTypeFont:
    family = "DejaVuSansMono" if mono else "DejaVuSans"
    return ImageFont.truetype(str(FONTS / f"{family}{'-Bold' if bold else ''}.ttf"), size)


class Sheet:
    """Grows downwards; `image` cuts it to what was drawn, or centres that in a given height."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._image = Image.new("RGB", (width, 4000), BACKGROUND)
        self._draw = ImageDraw.Draw(self._image)
        self._y = MARGIN

    @property
    def inner(self) -> int:
        return self.width - 2 * MARGIN

    def line(self, text: str, size: int = 15, accent: bool = False, mono: bool = False) -> Sheet:
        """Text, broken into as many lines as it needs."""
        letters = font(size, bold=accent, mono=mono)
        for line in wrapped(text, letters, self.inner):
            self._draw.text((MARGIN, self._y), line, ACCENT if accent else TEXT, letters)
            self._y += round(size * 1.35)
        self._y += 3
        return self

    def row(self, pictures: Sequence[Image.Image], captions: Sequence[str] = (), side: int = 0) -> Sheet:
        """Pictures of one shape beside each other, as wide as the sheet or each of a given width; words under each."""
        side = side or (self.inner - GAP * (len(pictures) - 1)) // len(pictures)
        height = round(side * pictures[0].height / pictures[0].width)
        left = (self.width - side * len(pictures) - GAP * (len(pictures) - 1)) // 2
        letters, deepest = font(12), 0
        for number, picture in enumerate(pictures):
            x = left + number * (side + GAP)
            self._paste(resized(picture, side, height), x)
            words = wrapped(captions[number], letters, side) if captions else []
            for line, text in enumerate(words):
                self._draw.text((x, self._y + height + 3 + 15 * line), text, TEXT, letters)
            deepest = max(deepest, len(words))
        self._y += height + GAP + (15 * deepest + 2 if deepest else 0)
        return self

    def wide(self, picture: Image.Image, height: int = 0) -> Sheet:
        """One picture of the sheet's width and its own proportions, or of at most this height."""
        wanted = round(picture.height * self.inner / picture.width)
        height = min(height or wanted, wanted)
        width = round(picture.width * height / picture.height)
        self._paste(resized(picture, width, height), (self.width - width) // 2)
        self._y += height + GAP
        return self

    def space(self, height: int) -> Sheet:
        self._y += height
        return self

    def image(self, height: int = 0) -> Image.Image:
        drawn = self._y - GAP + MARGIN
        if not height:
            return self._image.crop((0, 0, self.width, drawn))
        if drawn > height:
            raise ValueError(f"the sheet is {drawn} pixels high, {height} were asked for")
        result = Image.new("RGB", (self.width, height), BACKGROUND)
        result.paste(self._image.crop((0, 0, self.width, drawn)), (0, (height - drawn) // 2))
        return result

    def _paste(self, picture: Image.Image, x: int) -> None:
        mask = Image.new("L", picture.size, 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, picture.width - 1, picture.height - 1), RADIUS, 255)
        self._image.paste(picture, (x, self._y), mask)


def resized(picture: Image.Image, width: int, height: int) -> Image.Image:
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def wrapped(text: str, letters: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and letters.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
