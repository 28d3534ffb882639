"""TEA against its formula number by number, and what must hold of it."""

from __future__ import annotations

import math

import torch
from core_personalization.core_ops.embedding_adjustment import adjusted_towards
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

PARTS = st.floats(0.0, 1.0)
SEEDS = st.integers(0, 2**31)


def two(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, 16, generator=generator), 0.4 * torch.randn(2, 16, generator=generator)


def by_numbers(v: list[float], c: list[float], rotation: float, norm: float) -> list[float]:
    """slerp(n·v/‖v‖, n·c/‖c‖, ρ)."""
    long, short = (math.sqrt(sum(x * x for x in each)) for each in (v, c))
    n = (1 - norm) * long + norm * short
    a, b = [n * x / long for x in v], [n * x / short for x in c]
    angle = math.acos(sum(x * y for x, y in zip(a, b, strict=True)) / n**2)
    first, second = math.sin((1 - rotation) * angle) / math.sin(angle), math.sin(rotation * angle) / math.sin(angle)
    return [first * x + second * y for x, y in zip(a, b, strict=True)]


@given(SEEDS, PARTS, PARTS)
def test_it_is_the_papers_formula(seed, rotation, norm):
    v, c = two(seed)
    expected = [by_numbers(*each, rotation, norm) for each in zip(v.tolist(), c.tolist(), strict=True)]
    torch.testing.assert_close(adjusted_towards(v, c, rotation, norm), torch.tensor(expected), rtol=1e-4, atol=1e-4)


@given(SEEDS, PARTS)
def test_nothing_of_the_way_is_the_concept_and_all_of_it_is_the_kind(seed, part):
    v, c = two(seed)
    torch.testing.assert_close(adjusted_towards(v, c, 0.0, 0.0), v, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adjusted_towards(v, c, 1.0, 1.0), c, rtol=1e-4, atol=1e-5)
    assert torch.cosine_similarity(adjusted_towards(v, c, 0.0, part), v, dim=-1).min() > 0.9999
    norms = adjusted_towards(v, c, part, 0.5).norm(dim=-1)
    torch.testing.assert_close(norms, (v.norm(dim=-1) + c.norm(dim=-1)) / 2, rtol=1e-4, atol=0)


def test_a_concept_that_points_as_its_kind_does_stays():
    c = two(0)[1]
    torch.testing.assert_close(adjusted_towards(2 * c, c, 0.3, 0.0), 2 * c)
    assert adjusted_towards(-c, c, 0.3, 0.0).isfinite().all()
