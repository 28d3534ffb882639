"""Drawing in units of the picture: (0, 0) to (100, 100), whatever its size in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE = 64
"""Pixels of a finished picture."""
OVERSAMPLING = 4
CANVAS = SIDE * OVERSAMPLING

Colour = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Frame:
    """Where in the picture an object's own 0…100 square lies."""

    left: float = 0.0
    top: float = 0.0
    size: float = 100.0

    def pixels(self, values: Sequence[float]) -> list[float]:
        """x, y, x, y, … in the frame's units to canvas pixels."""
        offsets = (self.left, self.top)
        return [(offsets[i % 2] + value * self.size / 100) * CANVAS / 100 for i, value in enumerate(values)]


class Layer:
    """One transparent sheet to draw on."""

    def __init__(self, frame: Frame | None = None) -> None:
        self.image = Image.new("RGBA", (CANVAS, CANVAS), (0, 0, 0, 0))
        self._frame = frame or Frame()
        self._draw = ImageDraw.Draw(self.image)

    def ellipse(self, box: Box, colour: Colour) -> None:
        self._draw.ellipse(self._frame.pixels(box), fill=colour)

    def rectangle(self, box: Box, colour: Colour, radius: float = 0.0) -> None:
        rounding = radius * self._frame.size / 100 * CANVAS / 100
        self._draw.rounded_rectangle(self._frame.pixels(box), rounding, fill=colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self._draw.polygon(self._frame.pixels([value for point in points for value in point]), fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        pixels = self._frame.pixels([value for point in points for value in point])
        self._draw.line(
            pixels, fill=colour, width=max(1, round(width * self._frame.size / 100 * CANVAS / 100)), joint="curve"
        )
