"""One picture to look at: references, and some methods on the same prompts and noise; chosen by rule.

The rule: the first of the concepts given that two or more of the methods to be shown have drawn; of their prompts every
third, beginning with the first; the first picture of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from .drawing import is_done, load
from .protocol import Cell, Protocol

MOST, EVERY, TILE, MARGIN, TOP, LABEL, CHARACTERS, GAP = 2, 3, 128, 4, 52, 160, 21, 24
COUNTS = {3: "three", 4: "four", 5: "five", 6: "six"}


def sheet(
    protocol: Protocol, cells: Iterable[Cell], pictures: Path, file: Path, methods: Sequence[str],
    concepts: Sequence[str], most: int = MOST,
) -> bool:  # fmt: skip
    """Writes the picture of the first `most` of these concepts; False when there is none yet. cells: the protocol's."""
    first = protocol.references[0], protocol.seeds[0]
    of = {(cell.concept, cell.method.name): cell for cell in cells if (cell.references, cell.seed) == first}
    done = []
    for concept in concepts:
        row = [of[concept, name] for name in methods if (concept, name) in of]
        there = [cell for cell in row if is_done(pictures, cell)]
        if len(there) > 1:
            done.append(there)
    done = done[:most]
    if not done:
        return False
    blocks = [_block(protocol, pictures, row) for row in done]
    width = max(block.width for block in blocks)
    image = Image.new("RGB", (width, sum(block.height for block in blocks)), "white")
    top = 0
    for block in blocks:
        image.paste(block, (0, top))
        top += block.height
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, quality=75, method=6)
    return True


def _block(protocol: Protocol, pictures: Path, row: Sequence[Cell]) -> Image.Image:
    """One concept: its references, then a line of pictures for each method under the prompts."""
    templates = row[0].subject.prompts
    chosen = range(0, len(templates), EVERY)
    across = max(len(chosen), 4)
    image = Image.new("RGB", (LABEL + across * (TILE + MARGIN), (len(row) + 1) * (TILE + MARGIN) + TOP + GAP), "white")
    pen, font, large = ImageDraw.Draw(image), ImageFont.load_default(12), ImageFont.load_default(17)
    photos = row[0].pictures()[:across]
    pen.text((4, 42), f"{COUNTS.get(len(photos), len(photos))} photos", "black", large)
    for place, photo in enumerate(photos):
        image.paste(_tile(photo[0]), (LABEL + place * (TILE + MARGIN), 0))
    top = TILE + MARGIN
    for place, index in enumerate(chosen):
        words = "\n".join(wrap(templates[index].replace("{}", "…"), CHARACTERS))
        pen.text((LABEL + place * (TILE + MARGIN), top + 2), words, "black", font)
    for line, cell in enumerate(row):
        drawn, _ = load(pictures, cell)
        y = top + TOP + line * (TILE + MARGIN)
        pen.text((4, y + 42), cell.method.name.replace(", ", ",\n").replace("λ", "lambda"), "black", large)
        for place, index in enumerate(chosen):
            picture = drawn[index * protocol.pictures_per_prompt].movedim(0, -1)
            image.paste(_tile(picture), (LABEL + place * (TILE + MARGIN), y))
    return image


def _tile(picture: Tensor) -> Image.Image:
    """picture: [H, W, 3] in 0…1; its middle square."""
    image = Image.fromarray((picture * 255).round().byte().numpy())
    how = Image.Resampling.NEAREST if image.width < TILE else Image.Resampling.LANCZOS
    return ImageOps.fit(image, (TILE, TILE), how)
