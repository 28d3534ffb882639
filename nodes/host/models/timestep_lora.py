"""T-LoRA on a MODEL: added to its layers while the U-Net runs, with the ranks that count at the sampler's timestep.

Leans on wrappers of a U-Net's call, which are called in place of its forward pass with its timesteps, and moved by the
sampler to its device and back (`comfy.samplers.cast_to_load_options`); the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ....core_ops.weights.low_rank import LowRank
from ....core_ops.weights.timestep_rank import RankSchedule, TimestepRanks, scheduled_output
from ..attention.sampling_wrappers import UNET_CALL, with_wrappers
from .denoiser import ADDED, added_to
from .lora_loading import apply_lora, unet_pairs
from .module_copy import autograd_tensor

RANK_ENTRY = "timestep_rank"
"""Of a card: the schedule, by the names of its fields."""
MOST_RANKS = 4096
"""More than a layer of these U-Nets has."""


class TimestepLora:
    """A wrapper of a U-Net's forward pass. pairs: by the name of a weight, each of twice its ranks."""

    def __init__(self, pairs: Mapping[str, LowRank], schedule: RankSchedule, strength: float) -> None:
        self._matrices = {path: (pair.up.flatten(1), pair.down.flatten(1)) for path, pair in pairs.items()}
        self._scales = {path: strength * pair.alpha / pair.rank for path, pair in pairs.items()}
        self._schedule = schedule

    @property
    def made_of(self) -> tuple[Any, ...]:
        """All that it is, for a fingerprint."""
        schedule = self._schedule
        return (
            schedule.most,
            schedule.least,
            schedule.power,
            sorted(self._scales.items()),
            sorted(self._matrices.items()),
        )

    @property
    def matrices(self) -> list[Tensor]:
        return [matrix for pair in self._matrices.values() for matrix in pair]

    def to(self, place: Any) -> TimestepLora:
        """The host asks for a device, and for a number format, which is the layers' own."""
        if isinstance(place, torch.device):
            self._matrices = {path: (up.to(place), down.to(place)) for path, (up, down) in self._matrices.items()}
        return self

    def __call__(self, executor: Any, x: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        ranks = TimestepRanks()
        hooks = [self._hook(executor.class_obj, path, ranks, matrices) for path, matrices in self._matrices.items()]
        try:
            with ranks.at(timesteps):
                return executor(x, timesteps, *args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    def onto(self, unet: nn.Module, device: torch.device) -> TimestepRanks:
        """On a copy of the U-Net for good, as what autograd works with; returns what must know its timesteps."""
        ranks = TimestepRanks()
        for path, matrices in self._matrices.items():
            up, down = (autograd_tensor(matrix).to(device) for matrix in matrices)
            self._hook(unet, path, ranks, (up, down))
        return ranks

    def _hook(
        self, unet: nn.Module, path: str, ranks: TimestepRanks, matrices: tuple[Tensor, Tensor]
    ) -> RemovableHandle:
        scale = self._scales[path]

        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return output + scale * scheduled_output(layer, inputs[0], *matrices, mask=ranks.of(self._schedule))

        return unet.get_submodule(path.removesuffix(".weight")).register_forward_hook(hook)


def with_timestep_lora(
    model: ModelPatcher, lora: Mapping[str, Tensor], schedule: RankSchedule, strength: float = 1.0
) -> ModelPatcher:
    """A clone that samples with it. lora: by kohya's keys. Raises ValueError where it has not the schedule's ranks."""
    pairs = unet_pairs(model, lora, "file")
    if wrong := {pair.rank for pair in pairs.values() if pair.rank % 2 or pair.rank > 2 * schedule.most}:
        raise ValueError(
            f"file: its T-LoRA has matrices of {min(wrong)} ranks, which do not fit a schedule of {schedule.most}; get "
            "it anew."
        )
    lora_on_it = TimestepLora(pairs, schedule, strength)
    clone = with_wrappers(model, ADDED, {UNET_CALL: lora_on_it})
    clone.set_attachments(ADDED, (*added_to(model), lora_on_it))
    return clone


def applied_lora(
    model: ModelPatcher, clip: CLIP, lora: Mapping[str, Tensor], strength: float, card: Mapping[str, Any]
) -> tuple[ModelPatcher, CLIP]:
    """Patched clones, as `apply_lora` makes them; of a T-LoRA the U-Net's part by its schedule. card: of the LoRA's
    training, perhaps of a stranger. Raises ValueError as that does, and for a schedule that is none."""
    schedule, patched = schedule_in(card), apply_lora(model, clip, lora, strength)
    return patched if schedule is None else (with_timestep_lora(model, lora, schedule, strength), patched[1])


def schedule_in(card: Mapping[str, Any]) -> RankSchedule | None:
    """None where it has none; raises ValueError for one that cannot be."""
    entry = card.get(RANK_ENTRY)
    if entry is None:
        return None
    try:
        schedule = RankSchedule(**entry)
        ranks, power = (schedule.most, schedule.least), float(schedule.power)
    except (TypeError, ValueError) as error:
        raise ValueError(f"file: its schedule of ranks cannot be read ({error}); get it anew.") from error
    if not all(type(rank) is int and rank <= MOST_RANKS for rank in ranks) or power > MOST_RANKS:
        raise ValueError("file: its schedule of ranks is none that the pack writes; get it anew.")
    return schedule
