"""The smallest model that ComfyUI takes for Stable Diffusion 1.x: what it draws does not matter here."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from families.build import checkpoint
from families.hashing import weights_hash
from families.load import load_checkpoint
from families.shapes import CLIP_L, Family

Models = tuple[Any, Any, Any]
"""MODEL, CLIP and VAE."""

SMALLEST = Family(768, 8, False, 1, (1,), (1,), 1, (replace(CLIP_L, layers=2),))


def load_smallest(embeddings: Path) -> Models:
    return load_checkpoint(SMALLEST, checkpoint(SMALLEST), embedding_directory=str(embeddings))


def condition(models: Models) -> dict[str, str]:
    """Everything about the host that a node must leave as it was: weights, patches, hooks, random state, modes."""
    model, clip, vae = models
    modules = {"U-Net": model.model, "text encoder": clip.cond_stage_model, "VAE": vae.first_stage_model}
    return {
        "weights": weights_hash(models),
        "options": repr([_names(patcher.model_options) for patcher in (model, clip.patcher)]),
        "patches": repr([sorted(patcher.patches) for patcher in (model, clip.patcher, vae.patcher)]),
        "wrappers": repr(_names(model.wrappers)),
        "hooks": repr([name for name, module in modules.items() if any(map(_is_hooked, module.modules()))]),
        "random": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        "modes": repr((torch.is_grad_enabled(), torch.is_inference_mode_enabled())),
    }


def _is_hooked(module: torch.nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return any(hooks) or "forward" in vars(module)


def _names(value: Any) -> Any:
    """Nested dictionaries and lists, with the names of functions in them and not their addresses."""
    if isinstance(value, dict):
        return {str(key): _names(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_names(inner) for inner in value]
    return getattr(value, "__qualname__", None) or type(value).__name__
