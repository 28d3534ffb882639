"""CoRe Eq. 6: keep the norm of the embedding while it turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from .concept_embedding import ConceptEmbedding


def rescale_to_norm(vectors: Tensor, norm: Tensor) -> Tensor:
    """v / ‖v‖ · norm for each vector: vectors [V, D], norm [V, 1]."""
    return vectors * (norm / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12))


@contextmanager
def kept_norms(embedding: ConceptEmbedding) -> Iterator[None]:
    """Around an optimizer update: every vector leaves with the norm that it came with."""
    norms = embedding.norms()
    yield
    for name, vectors in embedding.vectors.items():
        vectors.copy_(rescale_to_norm(vectors, norms[name]))
