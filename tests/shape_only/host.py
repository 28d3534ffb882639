"""Has ComfyUI, in this process, believe in cards of shape only, and puts a loaded family on them.

Only devices and memory are replaced: `torch.cuda`'s questions to the driver, and whether ComfyUI computes on the CPU.
How weights come to the card is ComfyUI's own doing and ours.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor

from .backward import run_backward
from .card import ALL_DONE, CPU, READ, ShapeOnlyCards, invented

CARD, SECOND_CARD = torch.device("cuda:0"), torch.device("cuda:1")
MEMORY = 2**40
Models = tuple[Any, Any, Any]


@dataclass(frozen=True)
class Places:
    """The compute device of each of the host's models."""

    unet: torch.device = CARD
    text_encoder: torch.device = CARD
    vae: torch.device = CARD


def placed(models: Models, places: Places) -> Models:
    """MODEL, CLIP and VAE with these compute devices, as loaded and not yet used: their weights are on the CPU.

    They share the weights of `models`, which stay as they are whatever is done to these.
    """
    model, clip, vae = models
    clip, vae = clip.clone(), copy.copy(vae)
    clip.patcher = _patcher(clip.patcher, places.text_encoder)
    clip.cond_stage_model = clip.patcher.model
    vae.patcher = _patcher(vae.patcher, places.vae)
    vae.first_stage_model, vae.device, vae.output_device = vae.patcher.model, places.vae, CPU
    return _patcher(model, places.unet), clip, vae


def _patcher(patcher: Any, device: torch.device) -> Any:
    return type(patcher)(_sharing_weights(patcher.model), load_device=device, offload_device=CPU)


def _sharing_weights(module: nn.Module) -> nn.Module:
    shared = [*module.parameters(), getattr(module, "model_config", None)]  # which cannot be copied
    with torch.inference_mode():
        return copy.deepcopy(module, {id(value): value for value in shared})


@contextmanager
def pretended_cards(root: Path) -> Iterator[ShapeOnlyCards]:
    """In it, ComfyUI computes on a card of shape only. root: as for `ShapeOnlyCards`."""
    cards = ShapeOnlyCards(root)
    with ExitStack() as stack:
        for target, values in _replacements(cards):
            for name, value in values.items():
                stack.enter_context(mock.patch.object(target, name, value))
        yield stack.enter_context(cards)


def _replacements(cards: ShapeOnlyCards) -> list[tuple[Any, dict[str, Any]]]:
    import comfy.model_management as management

    current = _CurrentCard()
    card = SimpleNamespace(name="card of shapes", major=8, minor=0, multi_processor_count=1, total_memory=MEMORY)
    return [
        (
            torch.cuda,
            {
                "is_available": lambda: True,
                "is_bf16_supported": lambda including_emulation=True: True,
                "is_current_stream_capturing": lambda: False,
                "_lazy_init": lambda: None,
                "current_device": lambda: current.index,
                "set_device": current.set,
                "get_device_properties": lambda device=None: card,
                "get_device_name": lambda device=None: card.name,
                "synchronize": lambda device=None: cards.note(ALL_DONE, "torch.cuda.synchronize"),
                "mem_get_info": lambda device=None: (MEMORY, MEMORY),
                "memory_stats": lambda device=None: defaultdict(int),
                "empty_cache": lambda: None,
                "ipc_collect": lambda: None,
                **dict.fromkeys(("reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"), _nothing),
            },
        ),
        (fake_tensor, {"init_gpu_context": lambda device: None}),
        # To code that asks, shapes are no plain tensors: it takes them for quantized ones.
        (FakeTensor, {"tolist": _read_whole(cards), "dequantize": lambda tensor: tensor}),
        (nn.Module, {"_apply": _apply}),
        (torch.autograd, {"_engine_run_backward": run_backward}),
        (
            management,
            {
                "cpu_state": management.CPUState.GPU,
                "vram_state": management.VRAMState.NORMAL_VRAM,
                "current_loaded_models": [],
            },
        ),
    ]


class _CurrentCard:
    index = 0

    def set(self, device: Any) -> None:
        self.index = device if isinstance(device, int) else torch.device(device).index or 0


def _nothing(device: Any = None) -> int:
    return 0


def _read_whole(cards: ShapeOnlyCards) -> Callable[[FakeTensor], Any]:
    """`tolist` waits once; FakeTensor's own reads number by number."""

    def tolist(tensor: FakeTensor) -> Any:
        cards.note(READ, "tolist")
        return invented(tensor).tolist()

    return tolist


@torch.no_grad()
def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Under `nn.Module.to`, which would give the parameter there is the memory of the new one: here it is a new one."""
    for child in module.children() if recurse else ():
        child._apply(change)
    for name, parameter in module._parameters.items():
        if parameter is not None and (changed := change(parameter)) is not parameter:
            module._parameters[name] = nn.Parameter(changed, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module
