"""Directional Textual Inversion's update: v stays on its sphere."""

from __future__ import annotations

import math

import pytest
import torch
from core_personalization.core_ops.training.optimization import SphericalSGD, load_optimizer, optimizer_state
from hypothesis import given
from hypothesis import strategies as st
from oracles import losses as oracle
from torch import Tensor
from torch.nn.functional import normalize

SEEDS = st.integers(0, 2**31)
RATES = st.floats(1e-6, 1.0)


def vectors_and_prior(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    v = (torch.randn(2, 12, generator=generator) * torch.tensor([[0.4], [3.0]])).requires_grad_()
    v.grad = torch.randn(2, 12, generator=generator)
    return v, normalize(torch.randn(2, 12, generator=generator), dim=-1)


@given(SEEDS, RATES, st.floats(0.0, 10.0))
def test_it_equals_the_update_number_by_number(seed, rate, kappa):
    v, prior = vectors_and_prior(seed)
    expected = [
        oracle.spherical_step(*each, rate, kappa) for each in zip(v.detach().clone(), v.grad, prior, strict=True)
    ]
    SphericalSGD([v], rate, [prior], kappa).step()
    torch.testing.assert_close(v.detach(), torch.stack(expected), rtol=1e-4, atol=1e-5)


@given(SEEDS, RATES)
def test_norms_stay_and_every_step_is_as_long(seed, rate):
    v, prior = vectors_and_prior(seed)
    before = v.detach().clone()
    SphericalSGD([v], rate, [prior]).step()
    torch.testing.assert_close(v.norm(dim=-1), before.norm(dim=-1))
    turned = torch.cosine_similarity(v.detach().double(), before.double(), dim=-1)
    torch.testing.assert_close(turned, torch.full_like(turned, math.cos(math.atan(rate))), rtol=0, atol=1e-5)


def test_the_size_of_the_gradient_does_not_matter_without_a_prior():
    turned = []
    for scale in (1e-3, 1.0, 1e3):
        v, prior = vectors_and_prior(0)
        v.grad *= scale
        SphericalSGD([v], 0.1, [prior], kappa=0.0).step()
        turned.append(v.detach())
    torch.testing.assert_close(turned[0], turned[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(turned[2], turned[1])


def test_without_a_gradient_the_prior_draws():
    v, prior = vectors_and_prior(0)
    v.grad.zero_()
    near = torch.cosine_similarity(v.detach(), prior, dim=-1)
    optimizer = SphericalSGD([v], 0.05, [prior], kappa=0.1)
    for _ in range(60):
        optimizer.step()
    assert (torch.cosine_similarity(v.detach(), prior, dim=-1) > near.clamp(min=0.99)).all()


@pytest.mark.parametrize("stopped", [1, 3])
def test_what_goes_on_from_a_state_is_the_same_bit_for_bit(stopped):
    """There is nothing to remember but the vectors."""
    whole, prior = vectors_and_prior(0)
    optimizer = SphericalSGD([whole], 0.1, [prior])
    for step in range(6):
        if step == stopped:
            resumed, state = whole.detach().clone().requires_grad_(), optimizer_state(optimizer)
        optimizer.step()
    again = SphericalSGD([resumed], 0.1, [prior])
    load_optimizer(again, state)
    resumed.grad = whole.grad
    for _ in range(6 - stopped):
        again.step()
    assert torch.equal(resumed, whole)


def test_norms_do_not_drift_over_a_long_training():
    v, prior = vectors_and_prior(0)
    before = v.detach().norm(dim=-1)
    optimizer = SphericalSGD([v], 0.04, [prior])
    for step in range(2000):
        v.grad = torch.randn(v.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()
    torch.testing.assert_close(v.detach().norm(dim=-1), before, rtol=1e-4, atol=0)
