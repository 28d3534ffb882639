from __future__ import annotations

from typing import Literal

from torch import Tensor

Formulation = Literal["paper", "reference_code"]


def context_attention_loss(means: Tensor, reference: Tensor, formulation: Formulation = "paper") -> Tensor:
    """L_attn of CoRe Eq. 4: mean over context tokens of (μ_i − μ'_i)².

    means, reference: mean attention over heads and pixels of the aligned context tokens, [L, B, n] for `L` layers.
    "paper": μ_i is also the mean over layers, and the loss the mean over the batch. The authors' released program
    squares the difference of each layer and sample, sums over the batch and averages over layers and tokens.
    """
    if formulation == "paper":
        return (means.mean(0) - reference.mean(0)).square().mean()
    return (means - reference).square().mean(-1).sum(1).mean()
