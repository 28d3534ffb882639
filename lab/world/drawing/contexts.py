"""The eight places, and plain ground. Few, big shapes: a picture has 64 pixels a side."""

from __future__ import annotations

import random
from collections.abc import Callable

from .canvas import Colour, Layer

Scenery = Callable[[Layer, random.Random], None]


def _sky(layer: Layer, sky: Colour, ground: Colour, horizon: float) -> None:
    layer.rectangle((-1, -1, 101, horizon), sky)
    layer.rectangle((-1, horizon, 101, 101), ground)


def desert(layer: Layer, chance: random.Random) -> None:
    _sky(layer, (255, 170, 95), (225, 165, 75), 64)
    x = chance.uniform(20, 80)
    layer.ellipse((x - 9, 6, x + 9, 24), (255, 235, 170))
    layer.ellipse((-40, 56, 60, 110), (235, 180, 90))
    for x in (4, 92):
        layer.line([(x, 68), (x, 36)], (40, 120, 60), 6)
        layer.line([(x, 54), (x + 8, 54), (x + 8, 44)], (40, 120, 60), 4)


def jungle(layer: Layer, chance: random.Random) -> None:
    _sky(layer, (20, 90, 50), (45, 130, 50), 74)
    for x in (12, 84):
        layer.rectangle((x - 6, -1, x + 6, 80), (95, 60, 40))
    for _ in range(6):
        x, y = chance.uniform(-5, 105), chance.uniform(-6, 22)
        layer.ellipse((x - 20, y - 9, x + 20, y + 9), chance.choice([(50, 150, 60), (30, 120, 55)]))
    for x in (0, 100):
        layer.ellipse((x - 18, 58, x + 18, 88), (60, 165, 70))


def beach(layer: Layer, chance: random.Random) -> None:
    _sky(layer, (120, 205, 250), (250, 220, 150), 66)
    layer.rectangle((-1, 46, 101, 68), (25, 125, 200))
    layer.ellipse((78, 5, 95, 22), (255, 230, 90))
    x = chance.choice((12, 88))
    layer.line([(x, 74), (x, 46)], (150, 110, 80), 2.5)
    layer.polygon([(x - 16, 52), (x, 34), (x + 16, 52)], (225, 60, 60))
    layer.polygon([(x - 5, 52), (x, 34), (x + 5, 52)], (250, 250, 250))


def snow(layer: Layer, chance: random.Random) -> None:
    _sky(layer, (165, 185, 220), (240, 246, 255), 66)
    for x in (8, 26, 80, 96):
        layer.polygon([(x - 12, 70), (x, 34), (x + 12, 70)], (35, 105, 85))
        layer.polygon([(x - 5, 48), (x, 33), (x + 5, 48)], (240, 246, 255))
    for _ in range(14):
        x, y = chance.uniform(0, 100), chance.uniform(0, 64)
        layer.ellipse((x - 1.6, y - 1.6, x + 1.6, y + 1.6), (255, 255, 255))


def city(layer: Layer, chance: random.Random) -> None:
    _sky(layer, (165, 175, 190), (70, 72, 80), 76)
    for x, height in ((0, chance.uniform(8, 20)), (26, 30), (54, chance.uniform(20, 34)), (78, 12)):
        layer.rectangle((x, height, x + 22, 76), (95, 100, 120))
        for row in range(3):
            for column in range(2):
                left, top = x + 3 + column * 10, height + 5 + row * 14
                layer.rectangle((left, top, left + 6, top + 8), (250, 220, 120))
    for x in (4, 40, 76):
        layer.rectangle((x, 91, x + 18, 94), (245, 215, 80))


def kitchen(layer: Layer, chance: random.Random) -> None:
    _sky(layer, (250, 240, 215), (150, 95, 60), 76)
    for x in range(0, 101, 20):
        layer.line([(x, 0), (x, 76)], (225, 210, 180), 1.2)
    for y in (18, 38, 58):
        layer.line([(0, y), (100, y)], (225, 210, 180), 1.2)
    layer.rectangle((68, 6, 96, 34), (150, 205, 245))
    layer.line([(82, 6), (82, 34)], (255, 255, 255), 2.5)
    layer.rectangle((4, 22, 38, 26), (120, 75, 50))
    for x, colour in ((8, (200, 60, 50)), (20, (60, 100, 170)), (30, chance.choice([(60, 150, 90), (230, 180, 60)]))):
        layer.rectangle((x, 11, x + 7, 22), colour)


def night(layer: Layer, chance: random.Random) -> None:
    _sky(layer, (18, 18, 60), (35, 35, 75), 78)
    layer.ellipse((76, 6, 94, 24), (250, 245, 200))
    layer.ellipse((70, 3, 88, 21), (18, 18, 60))
    for _ in range(14):
        x, y = chance.uniform(0, 68), chance.uniform(0, 74)
        layer.ellipse((x - 1.4, y - 1.4, x + 1.4, y + 1.4), (255, 255, 230))


def garden(layer: Layer, chance: random.Random) -> None:
    _sky(layer, (150, 215, 250), (85, 180, 70), 60)
    for x in range(-2, 101, 13):
        layer.polygon([(x, 72), (x, 44), (x + 4.5, 37), (x + 9, 44), (x + 9, 72)], (250, 250, 245))
    layer.rectangle((-1, 52, 101, 56), (250, 250, 245))
    for _ in range(8):
        x, y = chance.uniform(0, 100), chance.uniform(78, 98)
        colour = chance.choice([(235, 70, 90), (250, 215, 70), (250, 250, 250)])
        layer.ellipse((x - 2.8, y - 2.8, x + 2.8, y + 2.8), colour)


def plain(layer: Layer, chance: random.Random) -> None:
    r, g, b = chance.choice([(215, 220, 225), (235, 220, 200), (200, 220, 205), (225, 205, 225)])
    _sky(layer, (r, g, b), (r - 28, g - 28, b - 28), 74)


CONTEXTS: dict[str, Scenery] = {
    "in the desert": desert,
    "in the jungle": jungle,
    "on the beach": beach,
    "in the snow": snow,
    "on a city street": city,
    "in the kitchen": kitchen,
    "under the night sky": night,
    "in the garden": garden,
}
