"""What a caption says about a scene: a small grammar, with parts left out, over words that are one CLIP token each."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .appearance import COLOURS, PATTERNS, Appearance
from .canvas import Colour
from .contexts import CONTEXTS
from .objects import OBJECTS
from .render import ACCESSORIES, STYLES, Scene

MORE_COLOURS: dict[str, Colour] = {
    "brown": (125, 75, 40),
    "orange": (240, 140, 40),
    "gray": (140, 140, 145),
    "teal": (50, 165, 170),
    "beige": (235, 215, 175),
}
"""Words for coats that only patterned things have."""
PALETTE = {**COLOURS, **MORE_COLOURS}
SECOND_COLOUR_WORDS = dict(
    zip(
        PALETTE,
        ("cherry", "navy", "lime", "lemon", "violet", "rose", "ivory", "charcoal",
         "chocolate", "amber", "silver", "turquoise", "sand"),
        strict=True,
    )
)  # fmt: skip
"""The second colour has words of its own, so that what a word means does not depend on its place in the sentence:
a single learned embedding can then say both colours at once."""
PATTERN_WORDS: dict[str, str] = dict(zip(PATTERNS, ("halves", "stripes", "dots", "patches"), strict=True))
KEYWORDS = (
    *OBJECTS,
    *(context.split()[-1] for context in CONTEXTS),
    *PALETTE,
    *SECOND_COLOUR_WORDS.values(),
    *PATTERN_WORDS.values(),
    *ACCESSORIES,
    *(style.split()[-1] for style in STYLES),
)
"""Every word that a picture can show. ('in the garden' shows at 'garden', 'pencil sketch' at 'sketch'.)"""


@dataclass(frozen=True)
class Labels:
    """What is to be seen: indices into OBJECTS, (None, *CONTEXTS), (*COLOURS, other), (None, *ACCESSORIES), STYLES."""

    kind: int
    context: int
    colour: int
    accessory: int
    style: int


def labels_of(scene: Scene) -> Labels:
    """colour is `len(COLOURS)` for any appearance that is not one plain named colour."""
    appearance = scene.appearance
    named = list(COLOURS.values())
    plain = appearance.pattern is None and appearance.first in named
    return Labels(
        kind=list(OBJECTS).index(scene.kind),
        context=[None, *CONTEXTS].index(scene.context),
        colour=named.index(appearance.first) if plain else len(named),
        accessory=[None, *ACCESSORIES].index(scene.accessory),
        style=STYLES.index(scene.style),
    )


def is_held_out(kind: str, context: str | None, colour: str | None) -> bool:
    """One context and one colour of every kind are never trained on; evaluation asks for them."""
    k = list(OBJECTS).index(kind)
    wrong_context = context is not None and list(CONTEXTS).index(context) == (3 * k + 1) % len(CONTEXTS)
    wrong_colour = colour in COLOURS and list(COLOURS).index(colour) == (5 * k + 2) % len(COLOURS)
    return wrong_context or wrong_colour


@dataclass(frozen=True)
class CaptionedScene:
    scene: Scene
    caption: str


def sample_scene(chance: random.Random, every: bool = False) -> CaptionedScene:
    """A scene outside the held-out combinations, or of `every` one; and a caption that may leave out what it shows."""
    while True:
        kind = chance.choice(list(OBJECTS))
        context = chance.choice(list(CONTEXTS)) if chance.random() < 0.85 else None
        first, second = chance.sample(list(PALETTE), 2)
        pattern = chance.choice(PATTERNS) if chance.random() < 0.5 else None
        if pattern is None:
            first = chance.choice(list(COLOURS))
        if every or not is_held_out(kind, context, first):
            break
    accessory = chance.choice((None, *ACCESSORIES))
    style = chance.choices(STYLES, (0.6, 0.2, 0.2))[0]
    appearance = Appearance(_near(PALETTE[first], pattern, chance), _near(PALETTE[second], pattern, chance), pattern)
    scene = Scene(kind, appearance, context, accessory, style)
    return CaptionedScene(scene, _caption(scene, (first, second), chance))


def _near(colour: Colour, pattern: str | None, chance: random.Random) -> Colour:
    """Patterned coats come in every shade around their word's colour."""
    if pattern is None:
        return colour
    red, green, blue = (min(250, max(20, value + chance.randint(-30, 30))) for value in colour)
    return red, green, blue


def _caption(scene: Scene, colours: tuple[str, str], chance: random.Random) -> str:
    names = chance.random() < 0.9
    pattern = scene.appearance.pattern
    thing = f"{colours[0]} {scene.kind}" if names else scene.kind
    parts = [f"a {scene.style} of {'an' if thing.startswith('o') else 'a'} {thing}"]
    if pattern and names:
        parts.append(f"with {SECOND_COLOUR_WORDS[colours[1]]} {PATTERN_WORDS[pattern]}")
    if scene.accessory and chance.random() < 0.95:
        parts.append(f"wearing {'a hat' if scene.accessory == 'hat' else 'sunglasses'}")
    if scene.context and chance.random() < 0.95:
        parts.append(scene.context)
    return " ".join(parts)
