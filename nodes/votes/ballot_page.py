"""The page of a blind vote: one HTML file with everything in it, that asks nothing of the network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from ...core_ops.pictures import rgb
from ..host.run_control import data_uri, image_of, jpeg
from .ballot import QUESTIONS, Pair

TEMPLATE = Path(__file__).with_name("ballot.html")
PLACE = "/*ballot*/null"
MOST_REFERENCES = 4


def jpeg_of(picture: Tensor, side: int) -> bytes:
    """A picture [H, W, C] in 0…1 as a file, its longer side at most `side` pixels."""
    image = image_of(rgb(picture).movedim(0, -1))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return jpeg(image, quality=90)


def page(vote: str, references: Sequence[bytes], pairs: Sequence[Pair], pictures: Sequence[tuple[bytes, bytes]]) -> str:
    """The HTML. pictures: of each pair, the left and the right one."""
    ballot = {
        "vote": vote,
        "questions": QUESTIONS,
        "references": [data_uri(picture) for picture in references],
        "pairs": [
            {"prompt": pair.prompt, "left": data_uri(left), "right": data_uri(right)}
            for pair, (left, right) in zip(pairs, pictures, strict=True)
        ],
    }
    # Inside of a script, "</script>" in somebody's prompt would end it.
    content = json.dumps(ballot, ensure_ascii=False).replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace(PLACE, content)
