"""Cross Initialization's anchor (Pang et al. 2023): v stays near where it started."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pairwise_distance


def embedding_anchor_loss(vectors: Tensor, start: Tensor) -> Tensor:
    """L_reg: mean over vectors of ‖v_i − v0_i‖₂, both [V, D]; as the released program, with torch's ε of 1e-6."""
    return pairwise_distance(vectors, start).mean()
