"""The pack's loss terms against the same formulas as plain loops: values and gradients."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.diffusion_process import NoiseSchedule
from core_personalization.core_ops.losses.attention_alignment import attention_alignment_loss, span_moments
from core_personalization.core_ops.losses.attention_to_end import attention_to_end_loss, distance_to_end
from core_personalization.core_ops.losses.context_losses import (
    context_attention_loss,
    context_embedding_loss,
    token_means,
)
from core_personalization.core_ops.losses.diffusion import diffusion_loss
from core_personalization.core_ops.losses.embedding_anchor import embedding_anchor_loss
from core_personalization.core_ops.losses.semantic_preservation import semantic_preservation_loss
from core_personalization.core_ops.recipes.context_regularization import rescale_to_norm
from oracles import losses as oracle

FORMULATIONS = ["paper", "reference_code"]
# The concept is one vector at 3, the super-category two tokens at 3 and 4; end-of-text stands at 7 or 8.
CONTEXT = oracle.context_positions(7, [3])
REFERENCE_CONTEXT = oracle.context_positions(8, [3, 4])
PAIRS = list(zip(CONTEXT, REFERENCE_CONTEXT, strict=True))
LAYERS, BATCH, HEADS, TOKENS = 3, 2, 4, 12


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_maps(seed: int) -> list[torch.Tensor]:
    """Layers of different resolution, [B, H, P, N] each."""
    logits = [random(BATCH, HEADS, pixels, TOKENS, seed=seed + i) for i, pixels in enumerate([64, 16, 4])]
    return [(2 * layer).softmax(-1).requires_grad_() for layer in logits]


def assert_same(actual: torch.Tensor, expected: torch.Tensor, inputs: list[torch.Tensor]) -> None:
    """Values to 1e-5, gradients on the inputs to 1e-4 of their largest entry."""
    assert expected.abs() > 0
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(loss, inputs) for loss in (actual, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


def test_context_positions_by_hand():
    assert CONTEXT == [0, 1, 2, 4, 5, 6, 7]
    assert REFERENCE_CONTEXT == [0, 1, 2, 5, 6, 7, 8]


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_context_embedding(formulation):
    output = random(TOKENS, 24).requires_grad_()
    reference = random(TOKENS, 24, seed=1)
    ours = context_embedding_loss(output[CONTEXT], reference[REFERENCE_CONTEXT], formulation)
    assert_same(ours, oracle.embedding_loss(output, reference, PAIRS, formulation), [output])


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_context_attention(formulation):
    maps, reference = random_maps(0), random_maps(10)
    means, reference_means = (torch.stack([token_means(layer) for layer in side]) for side in (maps, reference))
    ours = context_attention_loss(means[..., CONTEXT], reference_means[..., REFERENCE_CONTEXT], formulation)
    assert_same(ours, oracle.attention_loss(maps, reference, PAIRS, formulation), maps)


def test_attention_alignment():
    maps, concept, category = random_maps(0), [3], [4, 5]
    spans = torch.zeros(BATCH, 2, TOKENS)
    spans[:, 0, concept] = 1
    spans[:, 1, category] = 1 / 2
    moments = torch.stack([span_moments(spans)(layer) for layer in maps])
    ours = attention_alignment_loss(moments, 2.0, 5.0)
    assert_same(ours, oracle.attention_regularizer(maps, concept, category, 2.0, 5.0), maps)


def test_semantic_preservation():
    texts = [random(2, 16, seed=seed).requires_grad_() for seed in (0, 1)]
    assert_same(semantic_preservation_loss(*texts), oracle.semantic_preservation(*texts), texts)
    assert semantic_preservation_loss(texts[0], 3 * texts[0]).abs() < 1e-6


def test_attention_to_end():
    maps, concept = random_maps(0), [3, 4]
    spans = torch.zeros(BATCH, TOKENS)
    spans[:, concept] = 1 / 2
    distances = torch.stack([distance_to_end(spans, torch.tensor([8, 8]))(layer) for layer in maps])
    assert_same(attention_to_end_loss(distances), oracle.attention_to_end(maps, concept, 8), maps)


def test_embedding_anchor():
    vectors, start = random(3, 16).requires_grad_(), random(3, 16, seed=1)
    assert_same(embedding_anchor_loss(vectors, start), oracle.anchor_loss(vectors, start), [vectors])


@pytest.mark.parametrize("masked", [False, True])
def test_diffusion(masked):
    prediction, target = random(BATCH, 4, 5, 6).requires_grad_(), random(BATCH, 4, 5, 6, seed=1)
    mask = random(BATCH, 1, 5, 6, seed=2).sigmoid() if masked else None
    ours = diffusion_loss(prediction, target, mask)
    assert_same(ours, oracle.diffusion_loss(prediction, target, mask), [prediction])


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_noising_and_target(prediction):
    """Against the loops and against diffusers' scheduler."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    schedule = NoiseSchedule(scheduler.alphas_cumprod, prediction)
    z, noise, t = random(3, 4, 5, 6), random(3, 4, 5, 6, seed=1), torch.tensor([0, 500, 999])
    kind = {"epsilon": "epsilon", "v": "v_prediction"}[prediction]
    looped = oracle.noised(z, noise, t.tolist()), oracle.target(z, noise, t.tolist(), kind)
    diffused = scheduler.add_noise(z, noise, t), noise
    if prediction == "v":
        diffused = diffused[0], scheduler.get_velocity(z, noise, t)
    ours = schedule.add_noise(z, noise, t), schedule.target(z, noise, t)
    for expected in (looped, diffused):
        for mine, theirs in zip(ours, expected, strict=True):
            torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-4, atol=1e-5)


def test_norm_rescaling():
    after, before = random(3, 24), random(3, 24, seed=1)
    ours = rescale_to_norm(after, before.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(ours.double(), oracle.norm_rescaled(after, before), rtol=1e-5, atol=0)
