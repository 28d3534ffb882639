from __future__ import annotations

import dataclasses

import pytest
import torch
from core_personalization.core_ops.recipes.prompt_refinement import (
    BestVectors,
    PromptRefinement,
    RefinementConfig,
    RefinementProblem,
    change_norms,
    noised_latents,
    projected,
)
from core_personalization.core_ops.training.embedding_problem import ConceptEmbedding
from core_personalization.core_ops.training.objective import FixedWeights
from core_personalization.core_ops.training.training_loop import LoopConfig, NonFiniteLoss, TrainingLoop

from .toy_models import BIG, TIMESTEPS, WIDTH, ToyDenoiser, ToyTextEncoder, dog_embedding, pair

TERMS = ("context_embedding", "context_attention")
WEIGHTS = {"context_embedding": 1.0, "context_attention": 100.0}


def far_embedding(encoder: ToyTextEncoder) -> ConceptEmbedding:
    generator = torch.Generator().manual_seed(3)
    return ConceptEmbedding({"toy": encoder.vocabulary[[7]] + torch.randn(1, WIDTH, generator=generator)})


def noise(seed: int = 0, batch: int = 3):
    timesteps = range(TIMESTEPS - 5, TIMESTEPS)
    return noised_latents(
        torch.zeros(1, 4, 3, 3), ToyDenoiser().schedule, timesteps, batch, torch.Generator().manual_seed(seed)
    )


def refinement(embedding=None, config=None, noised=None, prompt=None) -> PromptRefinement:
    encoder = ToyTextEncoder()
    problem = RefinementProblem(
        encoder,
        ToyDenoiser(),
        prompt or pair([3], [4, 5]),
        noised or noise(),
        far_embedding(encoder) if embedding is None else embedding,
    )
    settings = config or RefinementConfig()
    return PromptRefinement(dataclasses.replace(settings, weights=FixedWeights(WEIGHTS)), problem)


def run(recipe: PromptRefinement, steps: int = 10, rate: float = 0.02) -> list:
    return list(TrainingLoop(recipe, LoopConfig(steps, rate, measure_every=0)))


@pytest.mark.parametrize("formulation", ["paper", "reference_code"])
@pytest.mark.parametrize("after", [[4], [4, 5], [4, 5, 6, 9]])
def test_both_terms_fall_also_on_noise_that_was_not_seen(formulation, after):
    recipe = refinement(config=RefinementConfig(formulation), prompt=pair([3], after, category=[BIG, 7]))
    unseen = refinement(recipe.problem.embedding, recipe.config, noise(seed=9), recipe.problem.pair)
    before = [each.measure().terms for each in (recipe, unseen)]
    run(recipe)
    for then, now in zip(before, (each.measure().terms for each in (recipe, unseen)), strict=True):
        assert all(now[name] < then[name] for name in TERMS)


def test_refinement_moves_only_vectors_and_has_no_diffusion_term():
    recipe = refinement()
    names = [name for each in recipe.training_step({}).objective.passes for name in each.names]
    assert tuple(names) == TERMS
    assert recipe.parameters == list(recipe.problem.embedding.vectors.values())
    run(recipe, steps=1)
    assert recipe.parameters[0].grad is not None


def test_the_reference_is_encoded_and_attended_to_once(monkeypatch):
    recipe = refinement()
    calls = []
    with_attention = ToyDenoiser.with_attention
    monkeypatch.setattr(ToyDenoiser, "with_attention", lambda *given: calls.append(1) or with_attention(*given))
    run(recipe, steps=4)
    assert recipe.problem.encoder.calls == 4 + 1
    assert len(calls) == 4 + 1


def test_with_shared_queries_no_step_runs_the_network_and_what_is_measured_falls_as_published(monkeypatch):
    shared, published = refinement(config=RefinementConfig(shared_queries=True)), refinement()
    calls = []
    for name in ("with_attention", "with_queries"):
        run_network = getattr(ToyDenoiser, name)
        monkeypatch.setattr(
            ToyDenoiser, name, lambda *given, run_network=run_network: calls.append(1) or run_network(*given)
        )
    before = shared.measure().terms
    assert len(calls) == 2  # the reference's queries, of which its means are made; the prompt itself
    run(shared, steps=4)
    assert len(calls) == 2
    assert before == pytest.approx(published.measure().terms)
    run(published, steps=4)
    after, as_published = shared.measure().terms, published.measure().terms
    assert all(after[name] < before[name] for name in TERMS)
    assert after == pytest.approx(as_published, rel=0.3)


def test_a_concept_that_is_its_super_category_measures_zero():
    measured = refinement(dog_embedding(ToyTextEncoder())).measure()
    assert measured.terms == pytest.approx(dict.fromkeys(TERMS, 0.0), abs=1e-6)
    assert measured.similarities == pytest.approx([1.0] * 5, abs=1e-6)


def test_similarities_average_to_the_embedding_term():
    measured = refinement().measure()
    mean = sum(measured.similarities) / len(measured.similarities)
    assert 1 - mean == pytest.approx(measured.terms["context_embedding"], abs=1e-6)
    assert measured.similarities[:2] == pytest.approx([1.0, 1.0])  # before the concept nothing can change


@pytest.mark.parametrize("reach", [0.01, 0.1])
def test_no_vector_leaves_its_reach(reach):
    recipe = refinement(config=RefinementConfig(reach=reach))
    reports = run(recipe, rate=0.1)
    assert all(report.observations["relative_change"] <= reach * (1 + 1e-5) for report in reports)
    assert reports[-1].observations["relative_change"] > 0.9 * reach
    free = run(refinement(), rate=0.1)
    assert free[-1].observations["relative_change"] > 0.1


def test_projection_takes_what_is_too_far_to_the_nearest_point():
    start = torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    moved = torch.tensor([[3.0, 14.0], [3.0, 4.1]])
    assert projected(moved, start, 0.5).tolist() == [[3.0, 6.5], [3.0, pytest.approx(4.1)]]
    assert change_norms({"toy": start}, {"toy": moved}) == pytest.approx(((100 + 0.01) ** 0.5, 50**0.5))


def test_a_loss_that_is_not_finite_changes_no_refined_vector():
    recipe = refinement()
    with torch.no_grad():
        recipe.problem.denoiser.queries.mul_(float("nan"))
    before = recipe.parameters[0].detach().clone()
    with pytest.raises(NonFiniteLoss, match="context_attention"):
        run(recipe)
    assert torch.equal(recipe.parameters[0], before)


NAN = float("nan")
KEPT = {
    "where no term has risen": ("ab", [(1.0, 8.0), (0.2, 9.0), (0.6, 4.0), (0.5, 7.0), (NAN, 0.1)], 2),
    "a term that was zero may not rise": ("ab", [(0.0, 8.0), (1e-9, 1.0)], 0),
    "a term of weight zero may rise": ("a", [(1.0, 8.0), (0.5, 9.0)], 1),
}


@pytest.mark.parametrize(("watched", "measured", "kept"), KEPT.values(), ids=list(KEPT))
def test_the_kept_vectors_are_those_at_which_no_term_has_risen(watched, measured, kept):
    lowest = BestVectors(tuple(watched))
    for number, terms in enumerate(measured):
        lowest.update(dict(zip("ab", terms, strict=True)), {"toy": torch.tensor(number)})
    assert int(lowest.vectors["toy"]) == kept


def test_noise_levels_fall_and_zero_latents_become_noise_alone():
    schedule = ToyDenoiser().schedule

    def noised(batch: int):
        generator = torch.Generator().manual_seed(1)
        return noised_latents(torch.zeros(1, 4, 3, 3), schedule, range(40, 50), batch, generator)

    drawn = noised(4)
    assert drawn.t.tolist() == [49, 46, 43, 40]
    assert torch.equal(drawn.z_t, noised(4).z_t)
    noise = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    sigma = (1 - schedule.alphas_cumprod[drawn.t]).sqrt().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(drawn.z_t, sigma * noise)
    assert noised(1).t.tolist() == [49]


def test_given_latents_are_taken_in_turn():
    latents = torch.stack([torch.full((4, 3, 3), value) for value in (10.0, -10.0)])
    drawn = noised_latents(latents, ToyDenoiser().schedule, range(0, 1), 3, torch.Generator().manual_seed(1))
    assert [float(z.mean().sign()) for z in drawn.z_t] == [1, -1, 1]
