"""Each term by its properties, and by one value worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from core_personalization.core_ops.losses.attention_alignment import attention_alignment_loss
from core_personalization.core_ops.losses.context_losses import context_attention_loss, context_embedding_loss
from core_personalization.core_ops.losses.diffusion import diffusion_loss

FORMULATIONS = ("paper", "reference_code")


def test_diffusion_loss_by_hand():
    prediction = torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2)
    assert diffusion_loss(prediction, torch.zeros(1, 1, 1, 2)) == 5.0
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    assert diffusion_loss(prediction, torch.zeros(1, 1, 1, 2), mask) == 1.0


def test_a_mask_of_ones_changes_nothing():
    prediction, target = torch.randn(2, 3, 4, 5, 5)
    assert torch.allclose(
        diffusion_loss(prediction, target, torch.ones(3, 1, 5, 5)), diffusion_loss(prediction, target)
    )


def test_masked_pixels_get_no_gradient():
    prediction = torch.randn(1, 4, 2, 2, requires_grad=True)
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).reshape(1, 1, 2, 2)
    diffusion_loss(prediction, torch.zeros(1, 4, 2, 2), mask).backward()
    assert (prediction.grad[..., 0, 1] == 0).all()
    assert (prediction.grad[..., 0, 0] != 0).all()


def test_context_embedding_loss_by_hand():
    output = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    reference = torch.tensor([[0.0, 2.0], [3.0, 3.0]])
    assert math.isclose(context_embedding_loss(output, reference), 0.5, rel_tol=1e-6)
    over_tokens = (2 - 3 / (math.sqrt(2) * 3) - 3 / math.sqrt(13)) / 2
    assert math.isclose(context_embedding_loss(output, reference, "reference_code"), over_tokens, rel_tol=1e-6)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_context_embedding_loss_ignores_scale_and_can_be_zero(formulation):
    output, other = torch.randn(2, 6, 16)
    assert context_embedding_loss(output, output, formulation).abs() < 1e-6
    assert torch.allclose(
        context_embedding_loss(output, other, formulation), context_embedding_loss(3 * output, other, formulation)
    )


def test_context_attention_loss_by_hand():
    means = torch.tensor([[[0.5, 0.1]], [[0.3, 0.1]]])  # two layers, one sample, two tokens
    reference = torch.tensor([[[0.2, 0.1]], [[0.4, 0.3]]])
    paper = ((0.4 - 0.3) ** 2 + (0.1 - 0.2) ** 2) / 2
    per_layer = ((0.3**2 + 0) / 2 + (0.1**2 + 0.2**2) / 2) / 2
    assert math.isclose(context_attention_loss(means, reference), paper, rel_tol=1e-5)
    assert math.isclose(context_attention_loss(means, reference, "reference_code"), per_layer, rel_tol=1e-5)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_context_attention_loss_is_symmetric_and_zero_when_equal(formulation):
    means, reference = torch.rand(2, 5, 3, 7)
    assert context_attention_loss(means, means, formulation) == 0
    assert context_attention_loss(means, reference, formulation) == context_attention_loss(
        reference, means, formulation
    )


def test_only_the_released_program_sums_over_the_batch():
    means, reference = torch.rand(2, 4, 1, 6)
    doubled = [x.repeat(1, 2, 1) for x in (means, reference)]
    assert torch.allclose(context_attention_loss(*doubled), context_attention_loss(means, reference))
    assert torch.allclose(
        context_attention_loss(*doubled, "reference_code"),
        2 * context_attention_loss(means, reference, "reference_code"),
    )


def test_attention_alignment_by_hand_and_zero_when_equal():
    moments = torch.tensor([[[[0.5, 0.2], [0.3, 0.1]]]])  # one layer, one sample: concept, super-category
    assert math.isclose(attention_alignment_loss(moments, 2.0, 5.0), 2 * 0.04 + 5 * 0.01, rel_tol=1e-5)
    equal = torch.rand(3, 2, 1, 2).repeat(1, 1, 2, 1)
    assert attention_alignment_loss(equal, 2.0, 5.0) == 0
