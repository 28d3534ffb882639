"""The coat of one particular thing: a plain named colour, or a pattern that no caption names."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

from .canvas import CANVAS, Colour, Frame, Layer

COLOURS: dict[str, Colour] = {
    "red": (205, 35, 40),
    "blue": (40, 80, 205),
    "green": (35, 150, 60),
    "yellow": (240, 200, 40),
    "purple": (130, 55, 175),
    "pink": (240, 130, 180),
    "white": (245, 245, 245),
    "black": (45, 45, 50),
}
PATTERNS = ("two-tone", "stripes", "dots", "patches")


@dataclass(frozen=True)
class Appearance:
    """pattern: one of `PATTERNS`, or None for the plain `first` colour. seed: where patches and dots lie."""

    first: Colour
    second: Colour = (0, 0, 0)
    pattern: str | None = None
    seed: int = 0

    def texture(self, frame: Frame) -> Image.Image:
        """The coat's colours over the whole canvas, in the object's frame."""
        layer = Layer(frame)
        if self.pattern == "two-tone":
            layer.rectangle((-20, -20, 50, 120), self.second)
        elif self.pattern == "stripes":
            for left in range(-100, 120, 24):
                layer.polygon([(left, 120), (left + 12, 120), (left + 72, -20), (left + 60, -20)], self.second)
        elif self.pattern in ("dots", "patches"):
            self._blobs(layer)
        texture = Image.new("RGBA", (CANVAS, CANVAS), (*self.first, 255))
        texture.alpha_composite(layer.image)
        return texture

    def _blobs(self, layer: Layer) -> None:
        drawing = random.Random(self.seed)
        if self.pattern == "dots":
            for row in range(7):
                for column in range(7):
                    x, y = column * 17 + (row % 2) * 8, row * 17
                    layer.ellipse((x - 5, y - 5, x + 5, y + 5), self.second)
        else:
            for _ in range(7):
                x, y, r = drawing.uniform(0, 100), drawing.uniform(0, 100), drawing.uniform(10, 18)
                layer.ellipse((x - r, y - r * 0.8, x + r, y + r * 0.8), self.second)
