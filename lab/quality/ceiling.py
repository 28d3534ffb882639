"""The thing itself, drawn as every prompt asks and put through the VAE: what a perfect method would reach."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..world.drawing.appearance import COLOURS
from ..world.drawing.concepts import CONCEPTS
from ..world.drawing.render import Scene, pixels
from ..world.networks.judge import ATTRIBUTES
from .host import Host
from .judging import named
from .protocol import Cell, Protocol, drawn_prompts


def shown(prompt: str, concept: str, seed: int) -> Scene:
    """All that a prompt names; the thing in its own coat, unless the prompt asks for another."""
    kind, appearance = CONCEPTS[concept]
    asked = {name: ATTRIBUTES[name][value] for name, value in named(prompt).items()}
    if colour := asked.get("colour"):
        appearance = replace(appearance, first=COLOURS[colour], pattern=None)
    return Scene(kind, appearance, asked.get("context"), asked.get("accessory"), asked.get("style") or "photo", seed)


def draw(host: Host, protocol: Protocol, cell: Cell) -> Tensor:
    """Pictures [prompts · n, 3, 64, 64] in 0…1, as `drawing.draw` gives them."""
    scenes = [shown(prompt, cell.concept, seed) for prompt, seed in drawn_prompts(protocol, cell)]
    images, _ = pixels(scenes)
    return host.through_vae(torch.from_numpy(images).float() / 255)
