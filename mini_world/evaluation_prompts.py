"""The evaluation's prompts: combinations that no stage has trained on, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .appearance import COLOURS, Appearance
from .captions import Labels, is_held_out, labels_of
from .contexts import CONTEXTS
from .objects import OBJECTS
from .render import ACCESSORIES, STYLES, Scene


@dataclass(frozen=True)
class Prompt:
    text: str
    labels: Labels


def evaluation_prompts(count: int, seed: int) -> list[Prompt]:
    """Each names a kind, a context, a colour and a style, and two of three an accessory."""
    chance = random.Random(seed)
    combinations = [
        (kind, context, colour)
        for kind in OBJECTS
        for context in CONTEXTS
        for colour in COLOURS
        if is_held_out(kind, context, colour)
    ]
    prompts = []
    for kind, context, colour in (chance.choice(combinations) for _ in range(count)):
        style = chance.choices(STYLES, (0.6, 0.2, 0.2))[0]
        scene = Scene(kind, Appearance(COLOURS[colour]), context, chance.choice((None, *ACCESSORIES)), style)
        prompts.append(Prompt(scene.caption(f"{colour} {kind}"), labels_of(scene)))
    return prompts
