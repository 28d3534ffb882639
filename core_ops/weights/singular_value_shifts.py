"""SVDiff's form of a trained weight (Han et al. 2023, Eq. 2): W_δ = U diag(ReLU(σ + δ)) Vᵀ, with only δ trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SingularValueShifts(nn.Module):
    """weight: [out, in] or a convolution's [out, in, kh, kw], whose kernel is flattened to [out, in·kh·kw]."""

    u: Tensor
    sigma: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        u, sigma, v = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        self.register_buffer("u", u)
        self.register_buffer("sigma", sigma)
        self.register_buffer("v", v)
        self.delta = nn.Parameter(torch.zeros_like(sigma))

    def forward(self, weight: Tensor) -> Tensor:
        shifted = self.u * torch.relu(self.sigma + self.delta) @ self.v
        return shifted.reshape(weight.shape).to(weight.dtype)
