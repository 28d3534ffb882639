"""The card's memory, and ComfyUI without the card."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
import torch

MIB = 2**20
T = TypeVar("T")


def unload_everything() -> None:
    import comfy.model_management

    comfy.model_management.unload_all_models()
    give_back()


def give_back() -> None:
    """What nobody holds any more, as after a prompt."""
    import comfy.model_management

    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    comfy.model_management.soft_empty_cache()


@contextmanager
def nearly_full(left_mib: int) -> Iterator[None]:
    """All of the card's memory is taken but this much, in blocks of at most a quarter of what is free."""
    give_back()
    taken = []
    while (room := torch.cuda.mem_get_info()[0] - left_mib * MIB) > 2 * MIB:
        taken.append(torch.empty(max(room // 4, 2 * MIB), dtype=torch.uint8, device="cuda"))
    yield
    taken.clear()
    give_back()


def allocated() -> float:
    """MiB that torch holds for tensors on the card."""
    give_back()
    return torch.cuda.memory_allocated() / MIB


@contextmanager
def full_precision() -> Iterator[None]:
    """Models are loaded in fp32: on a card ComfyUI takes half of it."""
    from comfy.cli_args import args

    with pytest.MonkeyPatch.context() as patch:
        for option in ("fp32_unet", "fp32_vae", "fp32_text_enc"):
            patch.setattr(args, option, True)
        yield


def on_the_cpu(work: Callable[[], T]) -> T:
    """What comes out where ComfyUI was started with --cpu; models are to be loaded within."""
    import comfy.model_management as host

    unload_everything()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "cpu_state", host.CPUState.CPU)
        return work()
