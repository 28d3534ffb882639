"""The loss of the diffusion model itself."""

from __future__ import annotations

from torch import Tensor


def diffusion_loss(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """L_diffusion of CoRe Eq. 1: mean squared error in the model's own prediction space.

    prediction, target: [B, C, h, w]. mask: [B, 1, h, w] in 0…1; the squared error is weighted by it and normalised
    by its mean, so that an all-one mask changes nothing. weight: of each sample, [B], not normalised.
    """
    squared_error = (prediction.float() - target.float()).square()
    if weight is not None:
        squared_error = squared_error * weight.reshape(-1, 1, 1, 1)
    if mask is None:
        return squared_error.mean()
    return (squared_error * mask).mean() / mask.mean().clamp(min=1e-6)
