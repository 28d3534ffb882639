"""Copies of the host's networks that autograd can work with.

The host loads weights under inference mode, which makes them inference tensors: no graph may pass through them, even
frozen. A copy made outside inference mode holds ordinary tensors. They lie on the host's own memory: a second U-Net
would be the largest thing that a training takes. So nothing may write into them; what is trained is copied first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn


@contextmanager
def autograd_mode() -> Iterator[None]:
    """Gradients on, inside a node that the host runs under inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def frozen_copy(patcher: ModelPatcher, submodule: str | None = None) -> nn.Module:
    """A frozen copy on the compute device of a patcher's model, with its patches (LoRA and the like) applied.

    Its weights share the host's memory until they are cast. The host replaces weights when it loads, unloads or patches
    a model, so that nothing changes here; where a patcher asks for it to write into them, they are copied.
    submodule: copy only this attribute of the model, for example "diffusion_model".
    """
    if patcher.is_dynamic():
        patcher = patcher.get_non_dynamic_delegate()
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    module = patcher.model if submodule is None else getattr(patcher.model, submodule)
    with torch.inference_mode(False):
        duplicate = copy.deepcopy(module, _views(module, patcher))
    return duplicate.requires_grad_(False).eval()


def _views(module: nn.Module, patcher: ModelPatcher) -> dict[int, Any]:
    """What deepcopy takes in place of copying: for each parameter one that autograd works with, on its memory."""
    return {
        id(parameter): nn.Parameter(readable(parameter.data, patcher), requires_grad=False)
        for parameter in module.parameters()
    }


def readable(tensor: torch.Tensor, patcher: ModelPatcher) -> torch.Tensor:
    """A patcher's weight, which may come from inference mode, as an ordinary tensor to be read only: on the same memory
    where that will not change."""
    with torch.inference_mode(False):
        quantised = type(tensor) is not torch.Tensor  # has no memory of its own
        if quantised or patcher.weight_inplace_update:
            return tensor.detach().clone()
        view = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return view.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def autograd_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """An ordinary tensor with the content of one that may come from inference mode."""
    with torch.inference_mode(False):
        return tensor.clone()
