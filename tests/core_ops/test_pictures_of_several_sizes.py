"""A batch of pictures of several sizes is run size by size: the same draw, the same mean, against a plain loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from core_ops.toy_models import ToyDenoiser, ToyTextEncoder, dog_embedding, images, pair
from core_personalization.core_ops.recipes.attndreambooth import AttnDreamBooth, AttnDreamBoothConfig
from core_personalization.core_ops.recipes.context_regularization import (
    ContextRegularization,
    ContextRegularizationConfig,
    SharedQueries,
)
from core_personalization.core_ops.training.embedding_problem import EmbeddingProblem
from core_personalization.core_ops.training.objective import FixedWeights
from core_personalization.core_ops.training.training_data import TrainingLatents, draw_batch
from core_personalization.core_ops.training.training_loop import LoopConfig, TrainingLoop

CELLS = [(3, 3), (2, 5), (5, 2), (3, 3), (2, 5)]
PROMPTS = [pair([3, 4], [5, 6])]
WEIGHTS = {"context_embedding": 0.5, "context_attention": 40.0}


def data(masked: bool, cells=CELLS) -> TrainingLatents:
    random = torch.Generator().manual_seed(5)
    masks = [torch.rand(1, *size, generator=random) for size in cells] if masked else None
    captions = [pair([3], []).concept, pair([9], [4]).concept]
    latents = [torch.randn(4, *size, generator=random) for size in cells]
    return TrainingLatents(latents, captions, torch.arange(len(cells)) % 2, masks)


def problem(latents: TrainingLatents) -> EmbeddingProblem:
    encoder = ToyTextEncoder()
    embedding = dog_embedding(encoder)
    with torch.no_grad():
        embedding.vectors["toy"] += 0.3  # or both regularizers are at their minimum
    return EmbeddingProblem(encoder, ToyDenoiser(), latents, embedding)


def gradient(recipe) -> torch.Tensor:
    """Of the first step, as the loop computes it."""
    training = TrainingLoop(recipe, LoopConfig(steps=1, learning_rate=0.0, measure_every=0))
    training._accumulate(measure=False)
    return recipe.parameters[0].grad


def drawn(latents: TrainingLatents, count: int):
    """What the first step draws, picture by picture: z_t, t, target, mask, which caption."""
    schedule, random = ToyDenoiser().schedule, torch.Generator().manual_seed(0)
    rounds = [torch.randperm(len(latents.latents), generator=random) for _ in range(2)]
    chosen = torch.cat(rounds)[:count].tolist()
    t = torch.randint(schedule.timesteps, (count,), generator=random)
    for index, at in zip(chosen, t.split(1), strict=True):
        z = latents.latents[index].unsqueeze(0)
        noise = torch.randn(z.shape[1:], generator=random).unsqueeze(0)
        mask = torch.ones(1, 1, *z.shape[-2:]) if latents.masks is None else latents.masks[index].unsqueeze(0)
        caption = int(latents.caption_of_latent[index])
        yield schedule.add_noise(z, noise, at), at, schedule.target(z, noise, at), mask, caption


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("looked_at", [0, 3])
@pytest.mark.parametrize("recipe", [ContextRegularization, SharedQueries])
def test_core_has_the_gradient_of_a_loop_over_pictures(masked, looked_at, recipe):
    latents, count = data(masked), 7
    config = ContextRegularizationConfig(
        batch_size=count, regularization_batch=looked_at, weights=FixedWeights(WEIGHTS), rescale_to=0
    )
    ours = gradient(recipe(config, problem(latents), PROMPTS))

    plain = problem(latents)
    v, encoder, denoiser = plain.embedding.vectors, plain.encoder, plain.denoiser
    captions = encoder.encode([*latents.captions, PROMPTS[0].concept], v)
    reference = encoder.encode([PROMPTS[0].reference], {})
    here, there = PROMPTS[0].positions(torch.device("cpu"))
    errors, cells, attention = torch.zeros(()), 0.0, []
    for place, (z_t, t, target, mask, caption) in enumerate(drawn(latents, count)):
        prediction, queries = denoiser.with_queries(z_t, t, captions[caption : caption + 1])
        errors = errors + ((prediction - target).square() * mask).sum()
        cells += float(mask.sum()) * z_t.shape[1]
        if place < (looked_at or count):

            def mean_attention(text, z_t=z_t, t=t, queries=queries) -> torch.Tensor:
                if recipe is SharedQueries:
                    means = denoiser.attention_of(queries, t, text, lambda maps: maps.mean((1, 2)))
                else:
                    means = denoiser.with_attention(z_t, t, text, lambda maps: maps.mean((1, 2)))[1]
                return torch.stack(means).mean(0)[0]

            μ, μ_reference = mean_attention(captions[2:]), mean_attention(reference)
            attention.append((μ[here] - μ_reference[there]).square().mean())
    words = torch.nn.functional.cosine_similarity(captions.context[2, here], reference.context[0, there], dim=-1)
    total = errors / cells + WEIGHTS["context_embedding"] * (1 - words).mean()
    total = total + WEIGHTS["context_attention"] * torch.stack(attention).mean()
    total.backward()
    torch.testing.assert_close(ours, v["toy"].grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("formulation", ["paper", "reference_code"])
def test_one_picture_of_a_batch_estimates_its_attention_loss_without_bias(formulation):
    """CoRe fast: the mean over which picture comes first is the loss of the whole batch."""
    plain, pair = problem(images()), PROMPTS[0]

    def attention_loss(of, regularization_batch: int) -> torch.Tensor:
        config = ContextRegularizationConfig(
            formulation=formulation, regularization_batch=regularization_batch, weights=FixedWeights(WEIGHTS)
        )
        recipe = ContextRegularization(config, plain, PROMPTS)
        text = plain.encoder.encode([pair.concept], plain.embedding.vectors)
        return recipe.attention_loss(of, text, recipe.reference(0), pair).detach()

    batch = draw_batch(plain.latents, plain.denoiser.schedule, 5, torch.Generator().manual_seed(3))
    (part,) = batch.parts
    turned = [replace(part, z_t=part.z_t.roll(-first, 0), t=part.t.roll(-first, 0)) for first in range(5)]
    estimates = torch.stack([attention_loss(replace(batch, parts=[each]), 1) for each in turned])
    assert estimates.std() > 0.01 * estimates.mean()
    torch.testing.assert_close(estimates.mean(), attention_loss(batch, 0))


def test_attndreambooth_looks_at_all_sizes():
    """Its term is a sum over the samples of a batch: that of two parts is the sum of theirs."""
    latents = data(masked=False)
    latents = replace(latents, captions=[pair([3], [7]).concept, pair([9], [7]).concept])
    recipe = AttnDreamBooth(AttnDreamBoothConfig(category_tokens=1, batch_size=5), problem(latents))
    batch = draw_batch(latents, recipe.problem.denoiser.schedule, 5, torch.Generator().manual_seed(0))
    cut = recipe.problem.encode(batch.captions)

    def aligned(of) -> float:
        from core_personalization.core_ops.terms import aligned_diffusion

        (both,) = aligned_diffusion(recipe.problem.denoiser, of, cut.text, recipe.alignment).passes
        return both.computed()["attention_alignment"].item()

    assert len(batch.parts) == 3
    parts = [aligned(replace(batch, parts=[part])) for part in batch.parts]
    assert aligned(batch) == pytest.approx(sum(parts), rel=1e-5)


def test_pictures_of_one_size_are_drawn_as_ever_bit_for_bit():
    """Against the draw as it is written in `draw_batch`, for a tensor of latents."""
    latents, schedule = images(), ToyDenoiser().schedule
    batch = draw_batch(latents, schedule, 4, torch.Generator().manual_seed(3))
    random = torch.Generator().manual_seed(3)
    chosen = torch.cat([torch.randperm(3, generator=random) for _ in range(2)])[:4]
    t = torch.randint(schedule.timesteps, (4,), generator=random)
    noise = torch.randn(4, 4, 3, 3, generator=random)
    (part,) = batch.parts
    assert torch.equal(part.z_t, schedule.add_noise(latents.latents[chosen], noise, t)) and torch.equal(part.t, t)


def test_every_picture_is_drawn_as_often_as_the_others_whatever_its_size():
    latents = data(masked=False)
    batch = draw_batch(latents, ToyDenoiser().schedule, 10, torch.Generator().manual_seed(1))
    counts = {tuple(part.z_t.shape[-2:]): len(part.places) for part in batch.parts}
    assert counts == {(3, 3): 4, (2, 5): 4, (5, 2): 2}
    assert sorted(place for part in batch.parts for place in part.places) == list(range(10))
