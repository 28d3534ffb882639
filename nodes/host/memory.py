"""Room on the compute device, asked for before a long run."""

from __future__ import annotations

import logging

import comfy.model_management
import torch

logger = logging.getLogger(__name__)
GIB = 2**30


def make_room(needed: int, device: torch.device, remedy: str) -> str:
    """Has the host unload models until `needed` bytes are free; returns a line on what was needed and found.

    Raises ValueError, with the remedy, when there is not enough.
    """
    comfy.model_management.free_memory(needed, device)
    found = comfy.model_management.get_free_memory(device)
    line = f"needs about {needed / GIB:.1f} GiB beside the model, found {found / GIB:.1f} GiB on {device}"
    if needed > found:
        raise ValueError(f"memory: the training {line}. {remedy}")
    logger.info("The training %s.", line)
    return line
