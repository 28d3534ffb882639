"""A finetune's difference as a LoRA."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.weights.low_rank import LowRank, extract_lora, low_rank

SHAPES = [(12, 20), (20, 12), (16, 16), (10, 4, 3, 3), (40, 4, 3, 3), (8, 6, 1, 1)]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_full_rank_reproduces_the_difference_to_rounding(shape):
    difference = torch.randn(shape) * 1e-4
    found = low_rank(difference, min(shape[0], torch.Size(shape[1:]).numel()))
    assert torch.allclose(found.difference(), difference, rtol=0, atol=1e-9)
    assert found.kept == pytest.approx(1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rank", [1, 3])
def test_a_lower_rank_is_the_truncated_svd(shape, rank):
    difference = torch.randn(shape)
    u, s, v = torch.linalg.svd(difference.flatten(1).double(), full_matrices=False)
    expected = (u[:, :rank] * s[:rank]) @ v[:rank]
    found = low_rank(difference, rank)
    assert torch.allclose(found.difference().flatten(1).double(), expected, atol=1e-5)
    assert found.kept == pytest.approx(float(s[:rank].square().sum() / s.square().sum()))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_are_those_of_kohya(shape):
    found = low_rank(torch.randn(shape), 2)
    ones = (1,) * (len(shape) - 2)
    assert (found.up.shape, found.down.shape) == ((shape[0], 2, *ones), (2, *shape[1:]))
    assert found.alpha == found.rank == 2


def test_the_error_falls_with_the_rank_and_kept_rises():
    difference = torch.randn(20, 6, 3, 3)
    found = [low_rank(difference, rank) for rank in range(1, 21)]
    errors = [float((pair.difference() - difference).norm()) for pair in found]
    assert errors == sorted(errors, reverse=True)
    assert [pair.kept for pair in found] == sorted(pair.kept for pair in found)


def test_a_convolution_by_the_pair_is_one_by_the_difference():
    """down is a convolution of its own and up one of 1x1: what diffusers and bypass mode compute."""
    difference, image = torch.randn(10, 4, 3, 3), torch.randn(2, 4, 8, 8)
    pair = low_rank(difference, 10)
    in_two = torch.conv2d(torch.conv2d(image, pair.down, padding=1), pair.up)
    assert torch.allclose(in_two, torch.conv2d(image, difference, padding=1), atol=1e-4)


def test_a_rank_beyond_the_full_one_is_clipped():
    assert low_rank(torch.randn(5, 9), 64).rank == 5


def test_nothing_changed_is_nothing_and_wholly_kept():
    found = low_rank(torch.zeros(5, 9), 2)
    assert not found.difference().any() and found.difference().isfinite().all()
    assert found.kept == 1


def test_a_low_rank_difference_is_kept_whole_also_in_half():
    difference = 1e-5 * torch.randn(64, 3) @ torch.randn(3, 96)
    found = low_rank(difference, 8)
    assert found.kept == pytest.approx(1)
    half = LowRank(found.up.half().float(), found.down.half().float(), found.alpha)
    assert float((half.difference() - difference).norm() / difference.norm()) < 1e-3


def test_alpha_scales_a_trained_pair():
    up, down = torch.randn(5, 2), torch.randn(2, 7)
    assert torch.equal(LowRank(up, down, alpha=1.0).difference(), 0.5 * up @ down)


def test_only_what_changed_is_extracted_biases_on_their_own():
    base = {"a.weight": torch.randn(6, 8), "b.weight": torch.randn(6, 8), "b.bias": torch.randn(6)}
    tuned = {name: weight.clone() for name, weight in base.items()}
    tuned["b.weight"] += torch.randn(6, 8)
    tuned["b.bias"] += 1
    extracted = extract_lora(base, tuned, 2)
    assert (set(extracted.pairs), set(extracted.differences)) == ({"b.weight"}, {"b.bias"})
    assert torch.allclose(extracted.differences["b.bias"], torch.ones(6))
    assert extracted.kept == pytest.approx(extracted.pairs["b.weight"].kept)


def test_it_tells_how_far_it_is_and_can_be_stopped():
    weights = {"a": torch.randn(4, 4), "b": torch.randn(4)}
    told: list[tuple[int, int]] = []
    extract_lora(weights, weights, 1, before_each=lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2)]


def test_the_share_kept_is_over_all_matrices_together():
    base = {"large": torch.zeros(6, 8), "small": torch.zeros(6, 8)}
    tuned = {"large": 10 * torch.outer(torch.ones(6), torch.ones(8)), "small": torch.randn(6, 8)}
    extracted = extract_lora(base, tuned, 1)
    lost = sum(float((pair.difference() - tuned[name]).square().sum()) for name, pair in extracted.pairs.items())
    total = sum(float(weight.square().sum()) for weight in tuned.values())
    assert extracted.kept == pytest.approx(1 - lost / total)


def test_half_precision_weights_are_compared_in_fp32():
    base = {"a": torch.ones(4, 4).half()}
    tuned = {"a": torch.full((4, 4), 1.0001)}
    assert extract_lora(base, tuned, 1).pairs["a"].difference()[0, 0] == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize("tuned", [{"other": torch.ones(4, 4)}, {"a": torch.ones(4, 5)}])
def test_weights_of_another_model_are_refused(tuned):
    with pytest.raises(ValueError, match=r"tuned: .* is not among the base model's weights"):
        extract_lora({"a": torch.ones(4, 4)}, tuned, 1)


def test_a_rank_of_zero_is_refused():
    with pytest.raises(ValueError, match="rank: 0 is too small"):
        extract_lora({}, {}, 0)
