"""Ten kinds of things, each with a silhouette of its own.

Every function draws a coat, which an appearance will colour, and details on top in colours of their own. All look
to the right or to the viewer, never to the left: mirrored animals average into two-headed ones when a model learns.
"""

from __future__ import annotations

from collections.abc import Callable

from .canvas import Colour, Layer

INK: Colour = (35, 30, 40)
WHITE: Colour = (250, 250, 245)
GLASS: Colour = (185, 220, 245)
STEEL: Colour = (150, 155, 165)
BEAK: Colour = (245, 160, 40)
RED: Colour = (215, 45, 45)
COAT: Colour = (255, 255, 255)
"""Stands for the appearance, which is put in its place."""

Painter = Callable[[Layer, Layer], None]


def dog(coat: Layer, details: Layer) -> None:
    coat.line([(14, 52), (4, 34)], COAT, 7)
    coat.ellipse((10, 42, 72, 72), COAT)
    for left in (14, 26, 50, 62):
        coat.rectangle((left, 60, left + 9, 94), COAT, 4)
    coat.polygon([(56, 58), (58, 30), (78, 30), (76, 58)], COAT)
    coat.ellipse((54, 14, 88, 46), COAT)
    coat.rectangle((74, 28, 98, 46), COAT, 8)
    details.ellipse((55, 16, 68, 46), (90, 60, 45))
    details.ellipse((77, 21, 83, 28), INK)
    details.ellipse((91, 27, 99, 35), INK)


def cat(coat: Layer, details: Layer) -> None:
    coat.line([(72, 86), (94, 78), (90, 54)], COAT, 8)
    coat.ellipse((24, 44, 78, 98), COAT)
    coat.ellipse((26, 16, 76, 58), COAT)
    coat.polygon([(28, 34), (27, 2), (50, 20)], COAT)
    coat.polygon([(74, 34), (75, 2), (52, 20)], COAT)
    for left in (38, 57):
        details.ellipse((left, 30, left + 9, 42), (120, 200, 80))
        details.ellipse((left + 3, 30, left + 6, 42), INK)
    details.polygon([(48, 45), (55, 45), (51.5, 50)], (230, 120, 130))
    for side in (-1, 1):
        details.line([(51 + 6 * side, 49), (51 + 26 * side, 46)], INK, 1.2)
        details.line([(51 + 6 * side, 51), (51 + 26 * side, 54)], INK, 1.2)


def bear(coat: Layer, details: Layer) -> None:
    for left in (22, 58):
        coat.ellipse((left, 4, left + 20, 24), COAT)
        details.ellipse((left + 5, 9, left + 15, 19), (235, 170, 160))
    coat.ellipse((22, 8, 78, 52), COAT)
    coat.ellipse((20, 44, 80, 96), COAT)
    for left in (6, 76):
        coat.ellipse((left, 46, left + 20, 74), COAT)
    for left in (14, 62):
        coat.ellipse((left, 76, left + 26, 99), COAT)
        details.ellipse((left + 7, 82, left + 19, 95), (235, 170, 160))
    details.ellipse((38, 28, 62, 48), (245, 225, 195))
    details.ellipse((45, 30, 55, 38), INK)
    for left in (34, 60):
        details.ellipse((left, 21, left + 7, 28), INK)


def duck(coat: Layer, details: Layer) -> None:
    coat.polygon([(4, 48), (26, 62), (20, 74)], COAT)
    coat.ellipse((10, 46, 84, 88), COAT)
    coat.ellipse((50, 8, 86, 44), COAT)
    coat.polygon([(52, 34), (80, 34), (84, 66), (48, 66)], COAT)
    details.polygon([(83, 20), (100, 27), (83, 34)], BEAK)
    details.ellipse((71, 17, 78, 24), INK)
    details.line([(28, 60), (42, 72), (60, 68)], INK, 2.5)
    for left in (38, 56):
        details.line([(left, 86), (left, 96), (left + 9, 96)], BEAK, 4)


def robot(coat: Layer, details: Layer) -> None:
    details.line([(50, 14), (50, 4)], STEEL, 3)
    details.ellipse((45, 0, 55, 9), RED)
    coat.rectangle((28, 12, 72, 42), COAT, 4)
    coat.rectangle((22, 46, 78, 80), COAT, 4)
    for left in (8, 80):
        coat.rectangle((left, 46, left + 12, 76), COAT, 5)
    for left in (28, 56):
        coat.rectangle((left, 80, left + 16, 98), COAT, 2)
    for left in (36, 55):
        details.ellipse((left, 19, left + 10, 29), (90, 235, 250))
        details.ellipse((left + 3, 22, left + 7, 26), INK)
    details.rectangle((38, 33, 62, 37), INK)
    details.rectangle((34, 53, 66, 71), (225, 225, 230), 2)
    for left, colour in ((38, RED), (47, (245, 200, 60)), (56, (70, 190, 90))):
        details.ellipse((left, 58, left + 7, 65), colour)


def car(coat: Layer, details: Layer) -> None:
    coat.polygon([(18, 50), (32, 24), (68, 24), (84, 50)], COAT)
    coat.rectangle((3, 46, 97, 76), COAT, 9)
    details.polygon([(27, 47), (36, 29), (49, 29), (49, 47)], GLASS)
    details.polygon([(53, 47), (53, 29), (65, 29), (75, 47)], GLASS)
    for left in (14, 64):
        details.ellipse((left, 62, left + 23, 85), INK)
        details.ellipse((left + 7, 69, left + 16, 78), (205, 205, 210))
    details.ellipse((89, 52, 97, 61), (255, 235, 130))
    details.rectangle((3, 53, 8, 61), RED)


def teapot(coat: Layer, details: Layer) -> None:
    coat.line([(26, 42), (6, 44), (8, 68), (28, 72)], COAT, 7)
    coat.polygon([(70, 74), (70, 52), (94, 24), (100, 28), (88, 60)], COAT)
    coat.ellipse((18, 32, 82, 90), COAT)
    coat.rectangle((32, 84, 68, 94), COAT, 3)
    coat.ellipse((30, 22, 70, 44), COAT)
    coat.ellipse((44, 10, 56, 24), COAT)
    details.line([(31, 37), (69, 37)], INK, 2)
    details.ellipse((93, 22, 101, 29), INK)


def backpack(coat: Layer, details: Layer) -> None:
    details.line([(40, 14), (40, 4), (60, 4), (60, 14)], INK, 4)
    for left in (6, 82):
        coat.rectangle((left, 46, left + 12, 84), COAT, 5)
    coat.rectangle((16, 10, 84, 96), COAT, 22)
    coat.rectangle((26, 56, 74, 88), COAT, 6)
    for points in ([(26, 58), (74, 58)], [(26, 60), (26, 86)], [(74, 60), (74, 86)], [(28, 88), (72, 88)]):
        details.line(points, INK, 2)
    details.line([(18, 36), (82, 36)], INK, 2.5)
    details.rectangle((45, 34, 55, 46), (240, 200, 80), 2)


def vase(coat: Layer, details: Layer) -> None:
    for x, top, colour in ((36, 8, RED), (50, 2, (250, 205, 60)), (64, 8, (240, 130, 190))):
        details.line([(50, 40), (x, top + 8)], (50, 130, 60), 3)
        details.ellipse((x - 8, top, x + 8, top + 16), colour)
        details.ellipse((x - 3, top + 5, x + 3, top + 11), WHITE)
    coat.rectangle((38, 32, 62, 40), COAT, 3)
    coat.polygon([(42, 38), (58, 38), (62, 54), (38, 54)], COAT)
    coat.ellipse((22, 46, 78, 92), COAT)
    coat.rectangle((34, 86, 66, 98), COAT, 3)


def clock(coat: Layer, details: Layer) -> None:
    for x in (26, 74):
        details.line([(x, 84), (x - 6 if x < 50 else x + 6, 97)], INK, 5)
    coat.ellipse((10, 4, 42, 34), COAT)
    coat.ellipse((58, 4, 90, 34), COAT)
    coat.ellipse((12, 16, 88, 92), COAT)
    details.ellipse((24, 28, 76, 80), WHITE)
    for points in ([(50, 31), (50, 36)], [(50, 72), (50, 77)], [(27, 54), (32, 54)], [(68, 54), (73, 54)]):
        details.line(points, INK, 2)
    details.line([(50, 54), (50, 38)], INK, 3.5)
    details.line([(50, 54), (63, 60)], INK, 3.5)


OBJECTS: dict[str, Painter] = {
    painter.__name__: painter for painter in (dog, cat, bear, duck, robot, car, teapot, backpack, vase, clock)
}
ANIMATE = ("dog", "cat", "bear", "duck", "robot")

HEADS: dict[str, tuple[float, float, float]] = {
    "dog": (70, 15, 30),
    "cat": (51, 17, 40),
    "bear": (50, 9, 42),
    "duck": (68, 9, 32),
    "robot": (50, 13, 40),
    "car": (50, 25, 36),
    "teapot": (50, 24, 36),
    "backpack": (50, 12, 42),
    "vase": (50, 34, 26),
    "clock": (50, 18, 44),
}
"""Where a hat sits: (centre, lowest edge, width), in the object's units."""
