"""CoRe's two regularizers (Wu et al. 2024): what a concept in a prompt changed for the words around it.

"paper" is the formulation of the equations, "reference_code" that of the authors' released program.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import cosine_similarity

Formulation = Literal["paper", "reference_code"]


def context_embedding_loss(output: Tensor, reference: Tensor, formulation: Formulation = "paper") -> Tensor:
    """L_emb of CoRe Eq. 3: mean over context tokens of 1 − cos(E(v)_i, E(v')_i).

    output, reference: output embeddings of the aligned context tokens, [n, D]. "paper" takes the cosine over the
    features of each token, "reference_code" over the tokens of each feature.
    """
    over = {"paper": -1, "reference_code": -2}[formulation]
    return (1 - cosine_similarity(output.float(), reference.float(), dim=over)).mean()


def token_means(probabilities: Tensor) -> Tensor:
    """μ of CoRe Eq. 4 in one layer: mean attention of every token over heads and pixels, [B, H, P, N] → [B, N]."""
    return probabilities.mean(dim=(1, 2))


def context_attention_loss(means: Tensor, reference: Tensor, formulation: Formulation = "paper") -> Tensor:
    """L_attn of CoRe Eq. 4: mean over context tokens of (μ_i − μ'_i)².

    means, reference: `token_means` of the aligned context tokens, [L, B, n] for `L` layers. "paper": μ_i is also the
    mean over layers, and the loss the mean over the batch. "reference_code" squares the difference of each layer and
    sample, sums over the batch and averages over layers and tokens.
    """
    if formulation == "paper":
        return (means.mean(0) - reference.mean(0)).square().mean()
    return (means - reference).square().mean(-1).sum(1).mean()
