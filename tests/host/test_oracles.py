"""What training computes through the host, against transformers, diffusers and loops with the same weights.

Relative differences: values below 1e-4 in fp32, gradients on the concept's vectors below 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from core_personalization.core_ops.losses.context_losses import context_attention_loss, token_means
from core_personalization.core_ops.losses.diffusion import diffusion_loss
from core_personalization.core_ops.recipes import context_regularization as core
from core_personalization.core_ops.training.embedding_problem import ConceptEmbedding, EmbeddingProblem
from families.build import FAMILIES
from families.load import load_family
from oracles import losses as oracle
from oracles import text, unet
from torch import Tensor

TEMPLATE = "a photo of a {} wearing a hat, on the beach"
SUPER_CATEGORY = "teddy bear"  # Two tokens against the concept's one.
SIZE = {"width": 64, "height": 96}
TIMESTEPS = [20, 700]


@dataclass(frozen=True)
class Case:
    """One family: the pack's parts in the host, the oracles, and one prompt pair with a batch."""

    name: str
    encoder: Any
    denoiser: Any
    pair: Any
    text_oracle: text.TextOracle
    unet_oracle: unet.UNetOracle
    vectors: dict[str, Tensor]
    z: Tensor
    noise: Tensor


@pytest.fixture(scope="module", params=list(FAMILIES))
def case(request) -> Case:
    from core_personalization.nodes.host.models.denoiser import HostDenoiser, UNetPlan
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    model, clip, _ = load_family(request.param)
    encoder = HostTextEncoder(clip)
    generator = torch.Generator().manual_seed(1)
    words = {name: [2368] for name in encoder.names}
    vectors = {
        name: embedding + 0.3 * embedding.std() * torch.randn(embedding.shape, generator=generator)
        for name, embedding in encoder.word_embeddings(words).items()
    }
    return Case(
        request.param,
        encoder,
        HostDenoiser(model, UNetPlan(torch.float32)),
        PromptRows(clip, SUPER_CATEGORY).pair(TEMPLATE),
        text.load_oracle(request.param),
        unet.load_oracle(request.param),
        {name: vector.requires_grad_() for name, vector in vectors.items()},
        torch.randn(2, 4, 12, 8, generator=generator),
        torch.randn(2, 4, 12, 8, generator=generator),
    )


@pytest.fixture(scope="module")
def actual(case) -> SimpleNamespace:
    """Every quantity of a step as the pack computes it."""
    schedule, t = case.denoiser.schedule, torch.tensor(TIMESTEPS)
    concept = case.encoder.encode([case.pair.concept], case.vectors)
    reference = case.encoder.encode([case.pair.reference], {})
    z_t = schedule.add_noise(case.z, case.noise, t)
    prediction, means = case.denoiser.with_attention(z_t, t, concept, token_means)
    _, reference_means = case.denoiser.with_attention(z_t, t, reference, token_means)
    target = schedule.target(case.z, case.noise, t)
    return SimpleNamespace(
        concept=concept,
        reference=reference,
        prediction=prediction,
        target=target,
        means=torch.stack(means),
        reference_means=torch.stack(reference_means),
    )


@pytest.fixture(scope="module")
def expected(case) -> SimpleNamespace:
    """The same by the oracles."""
    concept, concept_pooled = case.text_oracle.encode(*row_of(case, case.pair.concept))
    reference, reference_pooled = case.text_oracle.encode(*row_of(case, case.pair.reference))
    prediction_kind = FAMILIES[case.name].prediction
    z_t = oracle.noised(case.z, case.noise, TIMESTEPS).float()
    prediction, maps = run_unet(case, z_t, concept, concept_pooled)
    _, reference_maps = run_unet(case, z_t, reference, reference_pooled)
    return SimpleNamespace(
        context=concept,
        reference_context=reference,
        pooled=concept_pooled,
        prediction=prediction,
        target=oracle.target(case.z, case.noise, TIMESTEPS, prediction_kind),
        maps=maps,
        reference_maps=reference_maps,
    )


def row_of(case: Case, row: Any) -> tuple[dict[str, list[int]], dict[str, dict[int, Tensor]]]:
    """Ids for the oracle, 0 where the concept's vectors go, and those vectors by position."""
    ids, vectors = {}, {}
    for name, tokens in row.tokens.items():
        slots = {i: token.index for i, token in enumerate(tokens) if not isinstance(token, int)}
        ids[name[-1]] = [0 if i in slots else token for i, token in enumerate(tokens)]
        vectors[name[-1]] = {i: case.vectors[name][index] for i, index in slots.items()}
    return ids, vectors


def run_unet(case: Case, z_t: Tensor, context: Tensor, pooled: Tensor) -> tuple[Tensor, list[Tensor]]:
    batch = len(z_t)
    added = ()
    if FAMILIES[case.name].pooled_width:
        added = pooled.expand(batch, -1), unet.sizes_of(SIZE["height"], SIZE["width"], batch)
    return case.unet_oracle(z_t, torch.tensor(TIMESTEPS), context.expand(batch, -1, -1), *added)


def pairs_of(case: Case) -> list[tuple[int, int]]:
    """Aligned context tokens, from the two spans and ends alone."""
    concept, reference = (
        oracle.context_positions(row.end, list(row.span)) for row in (case.pair.concept, case.pair.reference)
    )
    return list(zip(concept, reference, strict=True))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Relative to the largest entry of what is expected."""
    assert actual.shape == expected.shape
    assert expected.abs().max() > 0
    difference = (actual.double() - expected.double()).abs().max() / expected.abs().max()
    assert difference < tolerance, f"relative difference {difference:.2e}"


def assert_same_loss(case: Case, actual: Tensor, expected: Tensor) -> None:
    assert_close(actual, expected)
    gradients = [
        torch.autograd.grad(loss, list(case.vectors.values()), retain_graph=True) for loss in (actual, expected)
    ]
    for mine, other in zip(*gradients, strict=True):
        assert_close(mine, other, 1e-3)


def test_the_pair_is_aligned_across_spans_of_different_length(case):
    assert len(case.pair.concept.span) == 1
    assert len(case.pair.reference.span) == 2
    concept, reference = case.pair.concept.tokens, case.pair.reference.tokens
    for name in concept:
        assert all(concept[name][i] == reference[name][j] for i, j in pairs_of(case))


def test_output_embeddings(case, actual, expected):
    assert_close(actual.concept.context, expected.context)
    assert_close(actual.reference.context, expected.reference_context)
    if case.name == "sdxl":
        assert_close(actual.concept.pooled, expected.pooled)


def test_prediction_and_attention_means(actual, expected):
    assert_close(actual.prediction, expected.prediction)
    for mine, layer in zip(actual.means, expected.maps, strict=True):
        assert_close(mine, layer.mean(dim=(1, 2)))


def test_diffusion_loss(case, actual, expected):
    mask = torch.rand(2, 1, 12, 8, generator=torch.Generator().manual_seed(2))
    assert_same_loss(
        case,
        diffusion_loss(actual.prediction, actual.target, mask),
        oracle.diffusion_loss(expected.prediction, expected.target, mask),
    )


@pytest.mark.parametrize("formulation", ["paper", "reference_code"])
def test_context_embedding_loss(case, actual, expected, formulation):
    """Each encoder apart, then averaged: SDXL's context is its two encoders' outputs side by side."""
    widths = [encoder.width for encoder in FAMILIES[case.name].text_encoders]
    sides = expected.context[0].split(widths, dim=-1), expected.reference_context[0].split(widths, dim=-1)
    per_encoder = [oracle.embedding_loss(a, b, pairs_of(case), formulation) for a, b in zip(*sides, strict=True)]
    assert_same_loss(
        case,
        recipe(case, formulation).embedding_loss(actual.concept, actual.reference, case.pair),
        sum(per_encoder) / len(per_encoder),
    )


@pytest.mark.parametrize("formulation", ["paper", "reference_code"])
def test_context_attention_loss(case, actual, expected, formulation):
    concept, reference = case.pair.positions()
    assert_same_loss(
        case,
        context_attention_loss(actual.means[..., concept], actual.reference_means[..., reference], formulation),
        oracle.attention_loss(expected.maps, expected.reference_maps, pairs_of(case), formulation),
    )


@pytest.mark.parametrize("formulation", ["paper", "reference_code"])
def test_context_attention_loss_by_the_queries_of_another_pass(case, actual, expected, formulation):
    """CoRe fast: keys alone differ between the prompts, and reach v. Here the pass is the reference's."""
    schedule, t = case.denoiser.schedule, torch.tensor(TIMESTEPS)
    z_t = schedule.add_noise(case.z, case.noise, t)
    prediction, queries = case.denoiser.with_queries(z_t, t, actual.reference)
    assert torch.equal(prediction, case.denoiser(z_t, t, actual.reference))
    means, reference_means = (
        torch.stack(case.denoiser.attention_of(queries, t, each, token_means))
        for each in (actual.concept, actual.reference)
    )
    _, pooled = case.text_oracle.encode(*row_of(case, case.pair.reference))
    run_unet(case, oracle.noised(case.z, case.noise, TIMESTEPS).float(), expected.reference_context, pooled)
    maps, reference_maps = (
        case.unet_oracle.asked_by_the_last_pass(each) for each in (expected.context, expected.reference_context)
    )
    concept, reference = case.pair.positions()
    assert_same_loss(
        case,
        context_attention_loss(means[..., concept], reference_means[..., reference], formulation),
        oracle.attention_loss(maps, reference_maps, pairs_of(case), formulation),
    )
    assert_close(reference_means, actual.reference_means)  # of a pass by its own queries
    own = torch.stack(case.denoiser.with_attention(z_t, t, actual.concept, token_means)[1])
    if not FAMILIES[case.name].pooled_width:
        assert_close(means[0], own[0])  # before the first cross-attention no text has acted
    assert not torch.allclose(means[1:], own[1:], rtol=1e-3)


def recipe(case: Case, formulation: str) -> Any:
    """CoRe's recipe without data: only its loss terms are called."""
    config = core.ContextRegularizationConfig(formulation=formulation)
    # No term that is compared here looks at pictures.
    problem = EmbeddingProblem(case.encoder, case.denoiser, None, ConceptEmbedding(case.vectors))
    return core.ContextRegularization(config, problem, [case.pair])
