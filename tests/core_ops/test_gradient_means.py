"""Gradients averaged over measurements: what they are shares of, and that balanced weights follow them."""

from __future__ import annotations

import copy

import pytest
import torch
from core_personalization.core_ops.training.objective import BalancedWeights, FixedWeights, GradientMeans

from .test_training_loop import WEIGHTS, context_regularization, loop

MEASURED = {"measure_every": 1, "averaged_over": 5}


def test_noise_averages_out_and_what_all_batches_share_is_left():
    random, means = torch.Generator().manual_seed(0), GradientMeans(40)
    signal = torch.ones(100) / 10  # of norm 1, in noise of norm 10
    for _ in range(200):
        means.add("steady", signal)
        means.add("noisy", signal + torch.randn(100, generator=random))
    found = means.norms()
    assert found["steady"] == pytest.approx(1.0)
    assert 1.0 < found["noisy"] < 2.5


def test_the_first_measurements_count_in_full_and_an_overflow_as_zero():
    means = GradientMeans(10)
    means.add("a", torch.tensor([3.0, 4.0]))
    assert means.norms() == {"a": pytest.approx(5.0)}
    means.add("a", torch.tensor([float("inf"), float("nan")]))
    assert 0 < means.norms()["a"] < 5


def test_a_states_means_lie_in_main_memory_and_go_on_where_the_gradients_are():
    means = GradientMeans(10)
    means.load_state_dict({"means": {"a": torch.ones(2)}, "times": {"a": 1}})
    means.add("a", torch.ones(2, device="meta"))
    assert means.state_dict()["means"]["a"].device.type == "meta"


def test_averaged_shares_are_those_of_the_mean_gradients():
    training = loop(weights=FixedWeights(WEIGHTS), **MEASURED)
    seen = []
    add = training._means.add
    training._means.add = lambda term, gradient: (seen.append((term, gradient)), add(term, gradient))
    for count, report in enumerate(training, 1):
        rate, norms = 1 - 2 / 6, {}
        for term in report.terms:
            of_term = [gradient for name, gradient in seen if name == term]
            parts = [rate ** (count - 1 - i) * gradient for i, gradient in enumerate(of_term)]
            weight = 1.0 if term == "diffusion" else WEIGHTS[term]
            norms[term] = weight * float(sum(parts).norm()) / sum(rate**i for i in range(count))
        total = sum(norms.values())
        for term, share in report.averaged_shares.items():
            assert share == pytest.approx(norms[term] / total, rel=1e-4, abs=1e-9)


def test_balanced_weights_follow_the_averaged_gradients():
    weights = BalancedWeights({"context_attention": 0.3}, WEIGHTS)
    training = loop(weights=weights, **MEASURED)
    update, given = training.recipe.weights.update, []
    training.recipe.weights.update = lambda norms: (given.append((norms, training._means.norms())), update(norms))
    list(training)
    assert len(given) == 8 and all(norms == averaged for norms, averaged in given)


@pytest.mark.parametrize("stop", [1, 5])
def test_resumed_means_are_those_of_the_whole_bit_for_bit(stop):
    def begun():
        return loop(weights=BalancedWeights({"context_attention": 0.3}, WEIGHTS), **MEASURED)

    whole, first, second = begun(), begun(), begun()
    reports = list(whole)
    for report in first:
        if report.step == stop:
            break
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert list(second) == reports[stop:]


def test_averaging_changes_no_fixed_training():
    with_means, without = loop(context_regularization(), **MEASURED), loop(context_regularization())
    list(with_means), list(without)
    assert torch.equal(with_means.recipe.parameters[0], without.recipe.parameters[0])
    assert all(report.averaged_shares is None for report in loop(steps=2))
