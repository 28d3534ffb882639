"""The concepts that the quick start learns: particular things with an appearance that no word names.

`python -m mini_world.concepts` draws them into assets/concepts.
"""

from __future__ import annotations

from pathlib import Path

from .appearance import Appearance
from .render import Scene, render

FOLDER = Path(__file__).parent.parent / "assets" / "concepts"
CONCEPTS: dict[str, tuple[str, Appearance]] = {
    "patchwork-dog": ("dog", Appearance((235, 215, 175), (150, 80, 40), "patches", seed=5)),
    "striped-teapot": ("teapot", Appearance((60, 170, 175), (245, 225, 120), "stripes")),
}
REFERENCE_CONTEXTS = ("in the garden", "on the beach", "in the kitchen", "on a city street")


def references(name: str) -> list[Scene]:
    """Four pictures of a concept, each in another place."""
    kind, appearance = CONCEPTS[name]
    return [Scene(kind, appearance, context, seed=100 + index) for index, context in enumerate(REFERENCE_CONTEXTS)]


def write_pictures(folder: Path = FOLDER) -> None:
    for name in CONCEPTS:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index, scene in enumerate(references(name)):
            render(scene).image.save(folder / name / f"{index}.png")


if __name__ == "__main__":
    write_pictures()
