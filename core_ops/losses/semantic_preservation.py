"""ClassDiffusion's semantic preservation (Huang et al. 2024, arXiv 2405.17532): "[V] dog" means what "dog" means."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity


def semantic_preservation_loss(with_concept: Tensor, without: Tensor) -> Tensor:
    """Mean of 1 − cos over prompts of two sets of text features, [P, D] each: outputs at end of text."""
    return (1 - cosine_similarity(with_concept.float(), without.float(), dim=-1)).mean()
