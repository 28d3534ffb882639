"""One scene to a picture, its foreground mask and its caption."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from .appearance import Appearance
from .canvas import CANVAS, SIDE, Frame, Layer
from .contexts import CONTEXTS, plain
from .objects import HEADS, INK, OBJECTS

ACCESSORIES = ("hat", "sunglasses")
PAPER = (230, 200, 150)
STYLES = ("photo", "painting", "pencil sketch")


@dataclass(frozen=True)
class Scene:
    """What is in a picture. context: a key of `CONTEXTS`, or None for plain ground. seed: place, size and scenery."""

    kind: str
    appearance: Appearance
    context: str | None = None
    accessory: str | None = None
    style: str = "photo"
    seed: int = 0

    def caption(self, name: str | None = None) -> str:
        """A sentence that names all but the appearance; `name` stands for the thing, by default its kind."""
        worn = {"hat": " wearing a hat", "sunglasses": " wearing sunglasses"}.get(self.accessory or "", "")
        place = f" {self.context}" if self.context else ""
        return f"a {self.style} of a {name or self.kind}{worn}{place}"


@dataclass(frozen=True)
class Picture:
    """image: RGB, `SIDE` pixels square. mask: L, 255 on the thing and what it wears."""

    image: Image.Image
    mask: Image.Image


def render(scene: Scene) -> Picture:
    """Draws a scene; the same scene gives the same bytes."""
    chance = random.Random(scene.seed)
    ground = Layer()
    (CONTEXTS[scene.context] if scene.context else plain)(ground, chance)
    size = chance.uniform(78, 90)
    frame = Frame(chance.uniform(2, 98 - size), 96 - size - chance.uniform(0, 3), size)
    thing = _thing(scene, frame)
    picture = ground.image.convert("RGB")
    shadow = Layer(frame)
    shadow.ellipse((12, 90, 90, 102), (0, 0, 0))
    picture.paste((40, 40, 50), (0, 0), shadow.image.getchannel("A").point(lambda alpha: alpha // 3))
    picture.paste(thing, (0, 0), thing)
    mask = thing.getchannel("A").resize((SIDE, SIDE), Image.Resampling.BOX)
    return Picture(_in_style(picture, scene.style).resize((SIDE, SIDE), Image.Resampling.LANCZOS), mask)


def pixels(scenes: Iterable[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Images [B, side, side, 3] and masks [B, side, side], both uint8."""
    pictures = [render(scene) for scene in scenes]
    return np.stack([np.asarray(p.image) for p in pictures]), np.stack([np.asarray(p.mask) for p in pictures])


def _thing(scene: Scene, frame: Frame) -> Image.Image:
    """The object with its appearance and accessory on a transparent canvas."""
    coat, details, worn = Layer(frame), Layer(frame), Layer(frame)
    OBJECTS[scene.kind](coat, details)
    if scene.accessory:
        _wear(scene.accessory, scene.kind, worn)
    silhouette = coat.image.getchannel("A")
    outline = ImageChops.subtract(silhouette.filter(ImageFilter.MaxFilter(5)), silhouette)
    thing = Image.new("RGBA", (CANVAS, CANVAS), (0, 0, 0, 0))
    thing.paste(INK, (0, 0), outline)
    thing.paste(scene.appearance.texture(frame), (0, 0), silhouette)
    thing.alpha_composite(details.image)
    thing.alpha_composite(worn.image)
    return thing


def _wear(accessory: str, kind: str, layer: Layer) -> None:
    x, brim, width = HEADS[kind]
    if accessory == "hat":
        layer.rectangle((x - width * 0.34, brim - 18, x + width * 0.34, brim + 2), (60, 40, 110), 2)
        layer.rectangle((x - width * 0.34, brim - 4, x + width * 0.34, brim + 1), (240, 200, 60))
        layer.rectangle((x - width * 0.62, brim, x + width * 0.62, brim + 6), (60, 40, 110), 3)
    else:
        y = brim + 8
        layer.rectangle((x - width * 0.5, y, x - 2, y + 12), (20, 20, 25), 4)
        layer.rectangle((x + 2, y, x + width * 0.5, y + 12), (20, 20, 25), 4)
        layer.rectangle((x - 4, y + 2, x + 4, y + 5), (20, 20, 25))


def _in_style(picture: Image.Image, style: str) -> Image.Image:
    if style == "painting":
        brushed = picture.reduce(2).filter(ImageFilter.ModeFilter(7))
        return Image.blend(ImageOps.posterize(brushed, 4), Image.new("RGB", brushed.size, PAPER), 0.3)
    if style == "pencil sketch":
        edges = picture.convert("L").filter(ImageFilter.FIND_EDGES)
        ImageDraw.Draw(edges).rectangle((0, 0, CANVAS - 1, CANVAS - 1), outline=0, width=3)
        lines = edges.point(lambda value: min(255, value * 4)).filter(ImageFilter.MaxFilter(5))
        return ImageOps.invert(lines).point(lambda value: 50 + value * 190 // 255).convert("RGB")
    return picture
