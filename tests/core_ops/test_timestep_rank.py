"""T-LoRA: how many ranks count at a timestep, what its change is, and where it starts."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.weights.low_rank import low_rank_output
from core_personalization.core_ops.weights.timestep_rank import (
    OrthogonalLowRank,
    RankSchedule,
    TimestepRanks,
    last_triplets,
    masked,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint


@given(st.integers(1, 64), st.integers(0, 63), st.floats(0.1, 4), st.lists(st.integers(0, 999), min_size=1, max_size=8))
def test_ranks_are_those_of_the_formula(least, more, power, t):
    """As the released program writes it, number by number."""
    most = least + more
    mask = RankSchedule(most, least, power).mask(torch.tensor(t))
    expected = [int(((1000 - each) / 1000) ** power * (most - least)) + least for each in t]
    assert mask.sum(1).tolist() == pytest.approx(expected)
    assert all((row[:count] == 1).all() and (row[count:] == 0).all() for row, count in zip(mask, expected, strict=True))


def test_what_samplers_ask_for_between_and_beyond():
    schedule = RankSchedule(10, 2)
    assert schedule.mask(torch.tensor([0.0, 499.5, 999.9, 1100.0, -3.0])).sum(1).tolist() == [10, 6, 2, 2, 10]


@pytest.mark.parametrize("wrong", [(4, 0), (4, 5), (4, 2, 0.0), (4, 2, -1.0), (4, 2, float("nan"))])
def test_a_schedule_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="ranks from"):
        RankSchedule(*wrong)


@pytest.mark.parametrize("shape", [(7, 9), (9, 7), (6, 2, 3, 3)])
def test_its_pair_is_the_change_of_the_paper(shape):
    """up · Λ · M · down − up₀ · Λ₀ · M · down₀, here in fp64."""
    torch.manual_seed(0)
    form = OrthogonalLowRank(torch.zeros(shape), rank=4).double()
    start = [each.clone() for each in (form.start_up, form.start_scale, form.start_down)]
    assert torch.equal(form.up, form.start_up)
    with torch.no_grad():
        for parameter in form.parameters():
            parameter.add_(torch.randn(parameter.shape))
    up, down = form.pair()
    for count in range(5):
        m = torch.diag((torch.arange(4) < count).double())
        own = form.up @ torch.diag(form.scale) @ m @ form.down
        expected = own - start[0] @ torch.diag(start[1]) @ m @ start[2]
        torch.testing.assert_close(up @ torch.block_diag(m, m) @ down, expected)


def test_it_starts_at_nothing_with_all_ranks_orthogonal():
    form = OrthogonalLowRank(torch.zeros(20, 30), rank=8)
    up, down = form.pair()
    assert not (up @ down).any()
    torch.testing.assert_close(form.up.T @ form.up, torch.eye(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(form.down @ form.down.T, torch.eye(8), rtol=0, atol=1e-5)
    (up @ down).sum().backward()
    assert all(parameter.grad is not None for parameter in form.parameters())
    assert all(parameter.is_contiguous() for parameter in form.parameters())
    assert {name for name, _ in form.named_parameters()} == {"up", "scale", "down"}


def test_a_matrix_with_fewer_ranks_has_those():
    assert OrthogonalLowRank(torch.zeros(3, 30), rank=8).pair()[0].shape == (3, 6)


@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (20, 12), (12, 20)])
def test_singular_values_are_those_of_normal_matrices(rows, columns):
    """Against torch's own decomposition of such matrices, mean and spread of each of the last four."""
    torch.manual_seed(0)
    drawn = torch.stack([last_triplets(rows, columns, 4, spread=0.5)[1] for _ in range(2000)])
    expected = torch.linalg.svdvals(0.5 * torch.randn(2000, rows, columns))[:, -4:]
    assert (drawn.diff(dim=1) <= 0).all()
    torch.testing.assert_close(drawn.mean(0), expected.mean(0), rtol=0.05, atol=0)
    torch.testing.assert_close(drawn.std(0), expected.std(0), rtol=0.1, atol=0)


def test_shapes_alone_draw_nothing():
    before = torch.get_rng_state()
    form = OrthogonalLowRank(torch.zeros(20, 30, device="meta"), rank=8)
    assert all(value.is_meta for value in form.state_dict().values())
    assert torch.equal(torch.get_rng_state(), before)


LAYERS = {"linear": (nn.Linear(6, 5), (2, 3, 6)), "flat": (nn.Linear(6, 5), (2, 6))}
LAYERS |= {"convolution": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 8, 8))}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("parts", [1, 3])
def test_each_picture_has_its_own_ranks_also_when_computed_again(name, parts):
    layer, shape = LAYERS[name]
    x = torch.randn(shape).repeat_interleave(parts, 0)
    up, down = torch.randn(len(layer.weight), 4, requires_grad=True), torch.randn(4, layer.weight[0].numel())
    ranks, schedule = TimestepRanks(), RankSchedule(4, 1)

    def output(up):
        return low_rank_output(layer, x, up, down, lambda hidden, layer: masked(ranks.of(schedule), hidden, layer))

    with ranks.at(torch.tensor([900, 300])):
        plain = output(up)
        kept = checkpoint(ranks.as_now(output), up, use_reentrant=False, preserve_rng_state=False)
    expected = [
        low_rank_output(layer, x[i : i + 1], up[:, :count], down[:count])
        for i, count in enumerate([1] * parts + [3] * parts)
    ]
    torch.testing.assert_close(plain, torch.cat(expected))
    (again,) = torch.autograd.grad(kept.square().sum(), [up])  # runs `output` once more, outside of `at`
    (once,) = torch.autograd.grad(plain.square().sum(), [up])
    assert torch.equal(once, again)
