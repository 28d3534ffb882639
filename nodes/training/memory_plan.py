"""How much memory a training will take, from a rehearsal of its first step, and which settings would make it less."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...core_ops.training.memory_estimate import META, MemoryPlan, step_bytes, storage_bytes
from ...core_ops.training.training_data import TrainingImages
from ...core_ops.training.training_loop import TrainingLoop
from ..host.models.denoiser import HostDenoiser
from ..host.models.device_memory import Room, gib
from ..host.models.module_copy import copied_bytes
from ..host.models.text_encoder import HostTextEncoder
from .training_images import CaptionedPictures

Settings = TypeVar("Settings", bound=Any)
CELL = 8
"""Pixels of a latent cell."""


@dataclass(frozen=True)
class Rehearsed:
    """A training built on the meta device, ready for one step. encoder_stays: prompts are encoded in every step."""

    encoder: HostTextEncoder
    denoiser: HostDenoiser
    images: TrainingImages
    loop: TrainingLoop
    encoder_stays: bool = True


def memory_plan(rehearsed: Rehearsed, device: torch.device, optimizer_bytes: int) -> MemoryPlan:
    """device: that the training shall run on. optimizer_bytes: of state per trained number."""
    encoder, denoiser, images = rehearsed.encoder, rehearsed.denoiser, rehearsed.images
    trained = rehearsed.loop.recipe.parameters
    own = [images.latents, *([] if images.masks is None else [images.masks]), *trained]
    copies = copied_bytes(denoiser.unet, denoiser.host_weights, device)
    text = copied_bytes(encoder.module, encoder.host_weights, device)
    state = optimizer_bytes * sum(parameter.numel() for parameter in trained)
    step = step_bytes(lambda: next(iter(rehearsed.loop)))
    if not rehearsed.encoder_stays:  # it has gone when the first step comes
        step, text = max(step, text - state), 0
    return MemoryPlan(copies + text + storage_bytes(own), state, step)


def without_state(parameters: Any, learning_rate: float) -> torch.optim.Optimizer:
    """An optimizer for a rehearsal: what the real one keeps is counted by itself."""
    return torch.optim.SGD(list(parameters), learning_rate)


def rehearsed_images(captioned: CaptionedPictures, copies: int, channels: int) -> TrainingImages:
    """Shapes of what `encode_images` will make, its small tensors of numbers on the CPU."""
    pictures, _, height, width = captioned.pictures.pixels.shape
    count, cells = pictures * max(copies, 1), (height // CELL, width // CELL)
    masks = None if captioned.pictures.masks is None else torch.empty(count, 1, *cells, device=META)
    rows = torch.tensor(captioned.caption_of_picture).repeat_interleave(max(copies, 1))
    return TrainingImages(torch.empty(count, channels, *cells, device=META), captioned.captions, rows, masks)


def on_meta(vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.empty_like(value, device=META) for name, value in vectors.items()}


def what_would_help(
    settings: Settings, changes: Iterable[Mapping[str, Any]], plan_of: Callable[[Settings], MemoryPlan], room: Room
) -> str:
    """A sentence on the settings that take less memory, those of most effect first, each with what it would take.

    changes: values of fields; those that the settings have already count for nothing.
    """
    kept: list[tuple[int, dict[str, Any]]] = [(room.needed, {})]
    for change in changes:
        new = {name: value for name, value in change.items() if getattr(settings, name) != value}
        total = plan_of(replace(settings, **new)).total
        if not any(less.items() <= new.items() and taken <= total for taken, less in kept):  # a part of it does as much
            kept.append((total, new))
    best = sorted(kept[1:], key=lambda item: item[0])
    listed = [f"{_said(new)}: {gib(total)}" for total, new in best if total <= room.found]
    if listed:
        return f"What would fit, most effective first: {'; '.join(listed[:4])}."
    if not best:
        return "No change of settings would take less: use a smaller model or resolution."
    return f"No change of settings makes it fit; the least is taken with {_said(best[0][1])}: {gib(best[0][0])}."


def _said(new: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} on" if value is True else f"{name} {value}" for name, value in new.items())
