"""TEA, test-time embedding adjustment (Bui et al. 2025, arXiv 2506.22685): v is turned towards its kind, at once.

A learned v tends to be long and to point away from its super-category, and so to drown the other words of a prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

ROTATION, NORM = 0.2, 0.5
"""ρ and α as published."""
_NO_ANGLE = 1e-6


def adjusted_towards(vectors: Tensor, category: Tensor, rotation: float = ROTATION, norm: float = NORM) -> Tensor:
    """slerp(n·v/‖v‖, n·c/‖c‖, ρ) with n = (1 − α)‖v‖ + α‖c‖, for vectors v and super-category c, [V, D] each.

    rotation: ρ, part of the way to the super-category's direction. norm: α, part of the way to its norm.
    """
    n = torch.lerp(vectors.norm(dim=-1, keepdim=True), category.norm(dim=-1, keepdim=True), norm)
    v, c = normalize(vectors, dim=-1), normalize(category, dim=-1)
    θ = (v * c).sum(-1, keepdim=True).clamp(-1, 1).acos()
    between = (((1 - rotation) * θ).sin() * v + (rotation * θ).sin() * c) / θ.sin()
    return n * torch.where(θ.sin() < _NO_ANGLE, torch.lerp(v, c, rotation), between)
