"""How much memory a training will take, from its own first forward pass."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch

from ...core_ops.fused_backward import pending_bytes
from ...core_ops.memory_estimate import MemoryPlan, activation_bytes, extrapolated
from ...core_ops.training_loop import STREAMS, Recipe
from ..host.denoiser import HostDenoiser
from ..host.text_encoder import HostTextEncoder

GRADIENT_BYTES = 4


def memory_plan(
    recipe_of: Callable[[int], Recipe],
    batch_size: int,
    models: tuple[HostTextEncoder, HostDenoiser],
    recompute: bool,
    optimizer_bytes: int,
    fused_backward: bool = False,
    maps: int = 0,
) -> MemoryPlan:
    """recipe_of: batch size → the method. recompute: gradient checkpointing, which is switched on after this.

    optimizer_bytes: of state per trained number. maps: of the largest attention map of one sample. A method's groups
    of terms are in memory one at a time, and no later one is larger than the first. fused_backward: gradients are
    in memory by portions.
    """
    encoder, denoiser = models
    blocks = denoiser.recomputed_blocks() if recompute else []
    parameters = recipe_of(batch_size).parameters
    trained = sum(parameter.numel() for parameter in parameters)
    gradients = pending_bytes(parameters) if fused_backward else trained * GRADIENT_BYTES

    def measured(batch: int) -> int:
        recipe = recipe_of(batch)
        random = {name: torch.Generator().manual_seed(0) for name in STREAMS}
        weights = chain(encoder.parameters(), denoiser.unet.parameters())
        return activation_bytes(lambda: next(recipe.training_step(random).terms), weights, blocks, recompute)

    return MemoryPlan(extrapolated(measured, batch_size), gradients + trained * optimizer_bytes, maps * batch_size)
