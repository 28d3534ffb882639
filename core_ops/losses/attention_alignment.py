from __future__ import annotations

from torch import Tensor


def attention_alignment_loss(moments: Tensor, mean_weight: float, variance_weight: float) -> Tensor:
    """AttnDreamBooth's cross-attention regularization (Pang et al. 2024, as in the released program).

    moments: mean and unbiased variance over heads and pixels of the concept's and of the super-category's map,
    [L, B, 2 (concept, super-category), 2 (mean, variance)]. Per layer and sample
    w_mean (mean_V − mean_cat)² + w_var (var_V − var_cat)², summed over the batch, averaged over the `L` layers.
    """
    mean, variance = (moments[:, :, 0] - moments[:, :, 1]).square().unbind(-1)
    return (mean_weight * mean + variance_weight * variance).sum(1).mean()
