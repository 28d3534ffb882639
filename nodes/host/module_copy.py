"""Copies of the host's networks that autograd can work with.

The host loads weights under inference mode, which makes them inference tensors: no graph may pass through them, even
frozen. A deep copy made outside inference mode holds ordinary tensors, and the host's own stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

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

    submodule: copy only this attribute of the model, for example "diffusion_model".
    """
    if patcher.is_dynamic():
        patcher = patcher.get_non_dynamic_delegate()
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    module = patcher.model if submodule is None else getattr(patcher.model, submodule)
    with torch.inference_mode(False):
        duplicate = copy.deepcopy(module)
    return duplicate.requires_grad_(False).eval()


def autograd_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """An ordinary tensor with the content of one that may come from inference mode."""
    with torch.inference_mode(False):
        return tensor.clone()
