"""The benchmark's intervals: concepts, training seeds and pictures are all drawn again."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.scores import estimate_mean

from lab.quality.intervals import hierarchical_estimate


def drawn(seed: int, shape: tuple[int, ...] = (4, 2, 20), spread: tuple[float, ...] = (1.0, 0.5, 1.0)):
    """Normal values around 0 whose concepts, seeds and pictures differ by these standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(*shape[: i + 1], generator=generator) * own for i, own in enumerate(spread)]
    return parts[0][:, None, None] + parts[1][:, :, None] + parts[2]


def naive(values: torch.Tensor, generator: torch.Generator, resamples: int = 4000) -> list[float]:
    """As it is defined, one draw after another."""

    def one_of(items: torch.Tensor) -> torch.Tensor:
        return items[int(torch.randint(len(items), (), generator=generator))]

    def resample() -> torch.Tensor:
        means = []
        for _ in values:
            concept = one_of(values)
            for _ in concept:
                pictures = one_of(concept)
                means.append(pictures[torch.randint(len(pictures), pictures.shape, generator=generator)].mean())
        return torch.stack(means).mean()

    means = torch.stack([resample() for _ in range(resamples)])
    return torch.quantile(means, torch.tensor([0.025, 0.975])).tolist()


def test_it_is_the_bootstrap_that_draws_one_level_after_another():
    values = drawn(0)
    found = hierarchical_estimate([list(concept) for concept in values])
    assert found.mean == pytest.approx(values.mean().item()) and found.n == values.numel()
    assert [found.low, found.high] == pytest.approx(naive(values, torch.Generator().manual_seed(1)), abs=0.06)


def test_of_one_concept_and_seed_it_is_the_bootstrap_over_pictures():
    values = drawn(0, (1, 1, 50))[0, 0]
    found, plain = hierarchical_estimate([[values]]), estimate_mean(values, torch.Generator().manual_seed(0))
    assert [found.low, found.high] == pytest.approx([plain.low, plain.high], abs=0.04)
    assert hierarchical_estimate([[values[:1]]]).low is None


def test_it_holds_what_is_true_of_the_next_concept_where_one_over_pictures_does_not():
    held = plain_held = 0
    for seed in range(60):
        values = drawn(seed, (10, 2, 20))
        found = hierarchical_estimate([list(concept) for concept in values])
        plain = estimate_mean(values.flatten(), torch.Generator().manual_seed(0))
        held += found.low <= 0 <= found.high
        plain_held += plain.low <= 0 <= plain.high
    assert held >= 52 > 40 > plain_held


def test_concepts_with_fewer_pictures_count_for_less():
    found = hierarchical_estimate([[torch.zeros(30)], [torch.ones(10)]])
    assert found.mean == 0.25 and (found.low, found.high) == (0, 1)


def test_a_training_seed_is_drawn_again_too():
    found = hierarchical_estimate([[torch.zeros(30), torch.ones(30)]])
    assert found.mean == 0.5 and (found.low, found.high) == (0, 1)
