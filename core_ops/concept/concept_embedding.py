"""The concept's trainable input embedding v."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d


class ConceptEmbedding:
    """v for every text encoder, [V, width] each, in fp32 whatever precision the models run in."""

    def __init__(self, initial: Mapping[str, Tensor]) -> None:
        self.vectors = {name: value.detach().clone().float().requires_grad_() for name, value in initial.items()}

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.vectors.values())

    def snapshot(self) -> dict[str, Tensor]:
        """A copy on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.vectors.items()}

    def norms(self) -> dict[str, Tensor]:
        """Norm of each vector, [V, 1] per encoder."""
        return {name: value.detach().norm(dim=-1, keepdim=True) for name, value in self.vectors.items()}

    def mean_norm(self) -> float:
        return float(torch.cat(list(self.norms().values())).mean())


def spread_over_vectors(word_embeddings: Tensor, vectors: int) -> Tensor:
    """Initial vectors [V, D] from the embeddings of some words [n, D].

    As many vectors as words: the words; fewer: means of neighbours; more: words repeated.
    """
    return adaptive_avg_pool1d(word_embeddings.float().T.unsqueeze(0), vectors)[0].T.contiguous()
