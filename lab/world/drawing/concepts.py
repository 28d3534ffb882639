"""Things to personalize: six animate and six inanimate, each with an appearance that no word names exactly.

`python -m lab world concepts` draws the references of the quick start's two into lab/assets/concepts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .appearance import Appearance
from .objects import ANIMATE
from .render import Scene, render

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "concepts"
PROMPTS = Path(__file__).parent / "prompts"
CONCEPTS: dict[str, tuple[str, Appearance]] = {
    "patchwork-dog": ("dog", Appearance((235, 215, 175), (150, 80, 40), "patches", seed=5)),
    "striped-cat": ("cat", Appearance((250, 160, 90), (110, 60, 120), "stripes")),
    "split-bear": ("bear", Appearance((95, 170, 140), (230, 190, 90), "two-tone")),
    "dotted-duck": ("duck", Appearance((250, 170, 150), (90, 60, 140), "dots")),
    "patchwork-robot": ("robot", Appearance((150, 190, 220), (190, 80, 60), "patches", seed=11)),
    "split-dog": ("dog", Appearance((90, 110, 170), (245, 170, 60), "two-tone")),
    "striped-teapot": ("teapot", Appearance((60, 170, 175), (245, 225, 120), "stripes")),
    "dotted-car": ("car", Appearance((110, 70, 60), (240, 200, 170), "dots")),
    "split-backpack": ("backpack", Appearance((190, 90, 110), (70, 120, 120), "two-tone")),
    "striped-vase": ("vase", Appearance((225, 215, 235), (90, 130, 70), "stripes")),
    "patchwork-clock": ("clock", Appearance((120, 150, 90), (235, 180, 190), "patches", seed=17)),
    "dotted-teapot": ("teapot", Appearance((170, 110, 190), (250, 240, 150), "dots")),
}
SHIPPED = ("patchwork-dog", "striped-teapot")
SHARED: dict[str, dict[str, str]] = {
    "beach": {"context": "on the beach"},
    "hat": {"accessory": "hat"},
    "sunglasses": {"accessory": "sunglasses"},
    "painting": {"style": "painting"},
}
"""What four pictures may have in common besides the concept; a method may learn it along."""
REFERENCE_CONTEXTS = ("in the garden", "on the beach", "in the kitchen", "on a city street")


def references(name: str) -> list[Scene]:
    """Four pictures of a concept, each in another place."""
    kind, appearance = CONCEPTS[name]
    return [Scene(kind, appearance, context, seed=100 + index) for index, context in enumerate(REFERENCE_CONTEXTS)]


def biased_references(name: str) -> list[Scene]:
    """Four pictures from which a method may learn too much: all on the beach, and all with a hat."""
    kind, appearance = CONCEPTS[name]
    return [Scene(kind, appearance, "on the beach", "hat", seed=200 + index) for index in range(4)]


def alike_references(name: str, shared: str) -> list[Scene]:
    """As `references`, but all with one thing that `SHARED` names."""
    return [replace(scene, **SHARED[shared]) for scene in references(name)]


def prompt_templates(name: str) -> list[str]:
    """The twenty evaluation prompts for such a thing, with `{}` in its place."""
    file = "animate.txt" if CONCEPTS[name][0] in ANIMATE else "inanimate.txt"
    return (PROMPTS / file).read_text(encoding="utf-8").splitlines()


def write_pictures(folder: Path = FOLDER) -> None:
    for name in SHIPPED:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index, scene in enumerate(references(name)):
            render(scene).image.save(folder / name / f"{index}.png")
