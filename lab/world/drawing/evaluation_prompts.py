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
    """scene: what it asks for, to be drawn by the renderer as a control."""

    text: str
    scene: Scene

    @property
    def labels(self) -> Labels:
        return labels_of(self.scene)


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
    for number in range(count):
        kind, context, colour = chance.choice(combinations)
        style = chance.choices(STYLES, (0.6, 0.2, 0.2))[0]
        accessory = chance.choice((None, *ACCESSORIES))
        scene = Scene(kind, Appearance(COLOURS[colour]), context, accessory, style, seed=number)
        prompts.append(Prompt(scene.caption(f"{colour} {kind}"), scene))
    return prompts
