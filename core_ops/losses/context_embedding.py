from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import cosine_similarity

Formulation = Literal["paper", "reference_code"]


def context_embedding_loss(output: Tensor, reference: Tensor, formulation: Formulation = "paper") -> Tensor:
    """L_emb of CoRe Eq. 3: mean over context tokens of 1 − cos(E(v)_i, E(v')_i).

    output, reference: output embeddings of the aligned context tokens, [n, D]. "paper" takes the cosine over the
    features of each token; the authors' released program takes it over the tokens of each feature.
    """
    over = {"paper": -1, "reference_code": -2}[formulation]
    return (1 - cosine_similarity(output.float(), reference.float(), dim=over)).mean()
