"""Directional Textual Inversion (Kim et al. 2025, arXiv 2512.13672): only the direction of v is learned.

A v that grows drowns the words around it: its norm stays m, and v/m moves on the unit sphere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

KAPPA = 1e-4
"""Of the prior, as published."""
_TINY = 1e-8


class SphericalSGD(torch.optim.Optimizer):
    """Riemannian gradient descent on spheres: every step is `learning_rate` radians long, in first order.

    parameters: vectors [V, D] each; their norms m are kept. priors: for each of them the directions μ [V, D] of a
    von Mises-Fisher prior of concentration `kappa`. With g the gradient on v/m: g ← g − κμ, made tangent, normalised;
    then v/m ← v/m − η·g, back on the sphere. As the released program with β = 0.
    """

    def __init__(
        self, parameters: Sequence[Tensor], learning_rate: float, priors: Sequence[Tensor], kappa: float = KAPPA
    ) -> None:
        super().__init__(list(parameters), {"lr": learning_rate})
        self._kappa, self._priors = kappa, dict(zip(parameters, priors, strict=True))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            for vectors in group["params"]:
                if vectors.grad is not None:
                    m = self.state[vectors].setdefault("norm", vectors.norm(dim=-1, keepdim=True))
                    vectors.copy_(m * self._moved(vectors / m, m * vectors.grad, self._priors[vectors], group["lr"]))

    def _moved(self, direction: Tensor, gradient: Tensor, prior: Tensor, rate: float) -> Tensor:
        g = gradient - self._kappa * prior
        g = g - (g * direction).sum(-1, keepdim=True) * direction
        g = g / (g.norm(dim=-1, keepdim=True) + _TINY)
        return normalize(direction - rate * g, dim=-1)
