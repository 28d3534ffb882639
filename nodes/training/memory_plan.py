"""How much memory a training will take, from a rehearsal of its first step, and which settings would make it less."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from ...core_ops.training.memory_estimate import META, MemoryPlan, step_bytes, storage_bytes
from ...core_ops.training.training_data import CaptionedPictures, TrainingLatents
from ...core_ops.training.training_loop import TrainingLoop
from ..host.models.device_memory import PeakMemory, Room, free_for, gib, make_room
from ..host.models.host_models import HostModels, TrainingModels
from ..host.models.module_copy import copied_bytes

CELL = 8
"""Pixels of a latent cell."""
AVERAGE_BYTES = 4
"""Of a trained number's moving average."""
CHECKPOINTING: dict[str, Any] = {"gradient_checkpointing": True, "checkpointing_levels": 0}

PlanOf = Callable[[Any], MemoryPlan]
"""A node's settings → what its training would take with them."""


class PlannedMemory:
    """What a training needs of its device, and what it took, in `text`.

    checked: a node's inputs with their settings. planned: what a training with such inputs would take. changes: values
    of settings that are tried where it does not fit. Raises ValueError there, before anything is copied, with those
    that do.
    """

    def __init__(
        self, host: HostModels, checked: Any, planned: Callable[..., MemoryPlan], changes: Iterable[Mapping[str, Any]]
    ) -> None:
        def plan_of(settings: Any) -> MemoryPlan:
            return planned(host, replace(checked, settings=settings))

        def remedy(room: Room) -> str:
            return what_would_help(checked.settings, changes, plan_of=plan_of, room=room)

        self._plan, self._device = planned(host, checked), host.device
        self.text = self._needed = make_room(self._plan, self._device, remedy)

    def begin(self) -> None:
        """From here on the peak counts. The VAE that encoded the pictures leaves, where its room is needed."""
        self.take_back()
        self._peak = PeakMemory(self._device)

    def take_back(self) -> None:
        """What the host has loaded beside the training, as the VAE for a preview, leaves where its room is needed."""
        free_for(self._plan, self._device)

    def note_peak(self) -> None:
        if (taken := self._peak.taken()) is not None:
            self.text = f"{self._needed}, took {gib(taken)}"


def rehearsed_plan(
    models: TrainingModels,
    latents: TrainingLatents,
    loop: TrainingLoop,
    device: torch.device,
    optimizer_bytes: int,
    encoder_stays: bool = True,
) -> MemoryPlan:
    """Of a training that was assembled on the meta device, by its first step.

    device: that it shall run on. optimizer_bytes: of state per trained number. encoder_stays: prompts are encoded in
    every step.
    """
    trained = loop.recipe.parameters
    own = [*latents.latents, *(latents.masks or ()), *trained, *models.denoiser.beside]
    copies = copied_bytes(models.denoiser.unet, models.denoiser.host_weights, device)
    text = copied_bytes(models.encoder.module, models.encoder.host_weights, device)
    average = AVERAGE_BYTES if loop.config.average_decay else 0
    state = (optimizer_bytes + average) * sum(parameter.numel() for parameter in trained)
    step = step_bytes(lambda: next(iter(loop)))
    if not encoder_stays:  # it has gone when the first step comes
        step, text = max(step, text - state), 0
    return MemoryPlan(copies + text + storage_bytes(own), state, step)


def without_state(parameters: Any, learning_rate: float) -> torch.optim.Optimizer:
    """An optimizer for a rehearsal: what the real one keeps is counted by itself."""
    return torch.optim.SGD(list(parameters), learning_rate)


def rehearsed_latents(captioned: CaptionedPictures, copies: int, channels: int) -> TrainingLatents:
    """Shapes of what `latents.encode_pictures` will make, its small tensors of numbers on the CPU."""
    times = max(copies, 1)
    cells = [(height // CELL, width // CELL) for height, width in captioned.pictures.sizes for _ in range(times)]
    masks = None if captioned.pictures.masks is None else [torch.empty(1, *size, device=META) for size in cells]
    caption_of_latent = torch.tensor(captioned.caption_of_picture).repeat_interleave(times)
    latents = [torch.empty(channels, *size, device=META) for size in cells]
    return TrainingLatents(latents, captioned.captions, caption_of_latent, masks, captioned.caption_dropout)


def what_would_help(settings: Any, changes: Iterable[Mapping[str, Any]], plan_of: PlanOf, room: Room) -> str:
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
    def said(name: str, value: Any) -> str:
        if isinstance(value, bool):
            return f"{name} on" if value else f"{name} off"
        return f"{name} {value}"

    return " and ".join(said(name, value) for name, value in new.items())
