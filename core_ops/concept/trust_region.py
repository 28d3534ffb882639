"""A limit on how far an embedding moves from where it began."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..conditioning import Embedding
from .concept_embedding import ConceptEmbedding


def projected(vectors: Tensor, start: Tensor, limit: float) -> Tensor:
    """The nearest vectors [V, D] with ‖v − v₀‖ ≤ limit · ‖v₀‖ for each of them; v₀ is `start`."""
    change = vectors - start
    allowed = limit * start.norm(dim=-1, keepdim=True)
    return start + change * (allowed / change.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)


@contextmanager
def within_reach(embedding: ConceptEmbedding, start: Embedding, limit: float) -> Iterator[None]:
    """Around an optimizer update: every vector that left the limit around `start` is brought back to it."""
    yield
    for name, vectors in embedding.vectors.items():
        vectors.copy_(projected(vectors, start[name].to(vectors), limit))


def change_norms(start: Embedding, vectors: Embedding) -> tuple[float, float]:
    """‖v − v₀‖ and ‖v₀‖ over all vectors and encoders."""
    change = torch.cat([(vectors[name] - start[name]).flatten() for name in start])
    return float(change.norm()), float(torch.cat([value.flatten() for value in start.values()]).norm())
