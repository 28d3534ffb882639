from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from core_personalization.core_ops.recipes.attndreambooth import AttnDreamBooth, AttnDreamBoothConfig
from core_personalization.core_ops.recipes.context_regularization import (
    ContextRegularization,
    ContextRegularizationConfig,
)
from core_personalization.core_ops.recipes.textual_inversion import TextualInversion
from core_personalization.core_ops.training.embedding_problem import EmbeddingProblem
from core_personalization.core_ops.training.objective import BalancedWeights, FixedWeights
from core_personalization.core_ops.training.training_data import TrainingLatents, draw_batch
from core_personalization.core_ops.training.training_loop import LoopConfig, NonFiniteLoss, TrainingLoop

from .toy_models import DOG, ToyDenoiser, ToyTextEncoder, dog_embedding, images, pair

PROMPTS = [pair([3], [4, 5]), pair([6, 9], [2]), pair([], [11, 12])]
WEIGHTS = {"context_embedding": 0.5, "context_attention": 50.0}


def context_regularization(**config) -> ContextRegularization:
    encoder = ToyTextEncoder()
    given = {"batch_size": 4, "rescale_from": 3, "rescale_to": 5, "weights": FixedWeights(WEIGHTS)}
    settings = ContextRegularizationConfig(**given | config)
    return ContextRegularization(settings, problem(encoder), PROMPTS)


def problem(encoder: ToyTextEncoder, data: TrainingLatents | None = None) -> EmbeddingProblem:
    return EmbeddingProblem(encoder, ToyDenoiser(), data or images(), dog_embedding(encoder))


def loop(recipe=None, weights=None, **config) -> TrainingLoop:
    settings = LoopConfig(**{"steps": 8, "learning_rate": 0.05, "measure_every": 2} | config)
    return TrainingLoop(recipe or context_regularization(weights=weights or FixedWeights(WEIGHTS)), settings)


def vectors(training: TrainingLoop) -> torch.Tensor:
    return training.recipe.parameters[0].detach().clone()


def test_a_seed_decides_every_bit_of_a_training():
    runs = [loop(seed=seed) for seed in (3, 3, 4)]
    for run in runs:
        list(run)
    assert torch.equal(vectors(runs[0]), vectors(runs[1]))
    assert not torch.equal(vectors(runs[0]), vectors(runs[2]))


@pytest.mark.parametrize("stop", [1, 4, 7])
@pytest.mark.parametrize("balanced", [False, True])
def test_resumed_equals_uninterrupted_bit_for_bit(stop, balanced):
    def weights():
        return BalancedWeights({"context_attention": 0.3}, WEIGHTS) if balanced else FixedWeights(WEIGHTS)

    whole = loop(weights=weights())
    reports = list(whole)
    first = loop(weights=weights())
    for report in first:
        if report.step == stop:
            break
    state = copy.deepcopy(first.state_dict())
    second = loop(weights=weights())
    second.load_state_dict(state)
    assert list(second) == reports[stop:]
    assert torch.equal(vectors(second), vectors(whole))


def test_a_run_whose_step_failed_continues_as_if_it_had_not():
    """It had drawn its batch already."""
    whole, broken = loop(), loop()
    reports = list(whole)
    update, broken._update = broken._update, lambda step: update(step) if step < 3 else 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(broken)
    resumed = loop()
    resumed.load_state_dict(copy.deepcopy(broken.state_dict()))
    assert list(resumed) == reports[2:]


def test_a_state_of_other_parameters_is_refused():
    state = loop().state_dict()
    state["parameters"]["0"] = torch.zeros(5, 5)
    with pytest.raises(ValueError, match="start: "):
        loop().load_state_dict(state)


def test_measuring_gradients_changes_no_result():
    often, never = loop(measure_every=1), loop(measure_every=0)
    list(often), list(never)
    assert torch.equal(vectors(often), vectors(never))


def test_the_gradient_is_that_of_the_weighted_sum():
    """Term by term through the cut at the text encoder, against one plain backward pass."""
    training = loop()
    training._accumulate(measure=False)

    recipe, streams = context_regularization(), loop().random
    batch = draw_batch(recipe.problem.latents, recipe.problem.denoiser.schedule, 4, streams["data"])
    drawn = PROMPTS[int(torch.randint(3, (), generator=streams["prompts"]))]
    text = recipe.problem.encoder.encode([*batch.captions, drawn.concept], recipe.problem.embedding.vectors)
    reference = recipe.problem.encoder.encode([drawn.reference], {})
    total = (
        batch.diffusion_loss(recipe.problem.denoiser, text[:1])
        + WEIGHTS["context_embedding"] * recipe.embedding_loss(text[1:], reference, drawn)
        + WEIGHTS["context_attention"] * recipe.attention_loss(batch, text[1:], reference, drawn)
    )
    total.backward()
    torch.testing.assert_close(training.recipe.parameters[0].grad, recipe.parameters[0].grad, rtol=1e-4, atol=1e-7)


def test_shares_sum_to_one_and_each_reference_is_encoded_once():
    training = loop(steps=30)
    reports = list(training)
    measured = [report.gradient_shares for report in reports if report.gradient_shares]
    assert len(measured) == 16
    assert all(abs(sum(shares.values()) - 1) < 1e-6 for shares in measured)
    assert training.recipe.problem.encoder.calls == 30 + len(PROMPTS)


def test_at_the_super_category_both_regularizers_are_zero():
    first = next(iter(loop(measure_every=1)))
    assert abs(first.terms["context_embedding"]) < 1e-6
    assert abs(first.terms["context_attention"]) < 1e-9


@pytest.mark.parametrize(("formulation", "kept"), [("paper", {3, 4, 5}), ("reference_code", {4, 5})])
def test_norm_is_kept_exactly_in_the_published_steps(formulation, kept):
    training = loop(context_regularization(formulation=formulation))
    norm = training.recipe.problem.embedding.mean_norm()
    for report in training:
        same = abs(report.observations["embedding_norm"] - norm) < 1e-6
        assert same == (report.step in kept), report.step
        norm = report.observations["embedding_norm"]


def test_textual_inversion_sees_the_same_batches_and_learns():
    encoder = ToyTextEncoder()
    baseline = TextualInversion(problem(encoder), 4)
    plain = list(loop(baseline, steps=60))
    regularized = list(loop(steps=60))
    assert plain[0].terms["diffusion"] == regularized[0].terms["diffusion"]
    assert sum(r.terms["diffusion"] for r in plain[-10:]) < sum(r.terms["diffusion"] for r in plain[:10])


def test_regularized_context_ends_closer_to_the_reference():
    def last(weights):
        return [r.terms["context_attention"] for r in loop(weights=FixedWeights(weights), steps=60)][-9:]

    assert sum(last(WEIGHTS)) < sum(last({"context_embedding": 0.0, "context_attention": 0.0}))


def test_attndreambooth_shares_one_forward_pass():
    encoder = ToyTextEncoder()
    data = dataclasses.replace(images(), captions=[pair([3], [DOG]).concept])
    recipe = AttnDreamBooth(AttnDreamBoothConfig(category_tokens=1, batch_size=4), problem(encoder, data))
    reports = list(loop(recipe))
    assert set(reports[0].terms) == {"diffusion", "attention_alignment"}
    assert all(report.gradient_shares["attention_alignment"] > 0 for report in reports if report.gradient_shares)


def test_accumulation_averages_micro_batches():
    training = loop(gradient_accumulation=3, max_gradient_norm=0.0)
    report = next(iter(training))
    single = loop()
    values = [single._accumulate(measure=False)[0]["diffusion"] for _ in range(3)]
    assert abs(report.terms["diffusion"] - sum(values) / 3) < 1e-6


def test_clipping_bounds_the_gradient():
    training = loop(max_gradient_norm=1e-3)
    next(iter(training))
    assert training.recipe.parameters[0].grad.norm() <= 1e-3 * 1.001


def test_a_loss_that_is_not_finite_is_named_and_updates_nothing():
    training = loop()
    reports = iter(training)
    next(reports)
    before = vectors(training)
    training.recipe.attention_loss = lambda *_: training.recipe.parameters[0].sum() * float("nan")
    with pytest.raises(NonFiniteLoss, match=r"context_attention.*learning_rate"):
        next(reports)
    assert training.step == 1
    assert torch.equal(vectors(training), before)


def test_masks_and_captions_reach_the_loss():
    encoder = ToyTextEncoder()
    data = images(masked=True)
    captions = [pair([3], []).concept, pair([9], [4]).concept]
    data = type(data)(data.latents, captions, torch.tensor([0, 1, 0]), data.masks)
    recipe = TextualInversion(problem(encoder, data), 5)
    assert all(report.terms["diffusion"] > 0 for report in loop(recipe))


def test_balanced_weights_reach_the_chosen_share():
    balanced = BalancedWeights({"context_embedding": 0.2, "context_attention": 0.3}, WEIGHTS)
    reports = list(loop(weights=balanced, steps=60, measure_every=1))
    shares = [report.gradient_shares for report in reports[20:]]
    assert abs(sum(s["context_attention"] for s in shares) / len(shares) - 0.3) < 0.12
    assert abs(sum(s["context_embedding"] for s in shares) / len(shares) - 0.2) < 0.12


def test_loss_scaling_changes_the_scale_and_not_the_result():
    scaled, plain = loop(fp16_scaling=True), loop()
    for mine, other in zip(scaled, plain, strict=True):
        assert mine.terms == pytest.approx(other.terms, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(vectors(scaled), vectors(plain), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("before", [True, False])
def test_a_training_goes_on_with_loss_scaling_where_it_had_none_and_without(before):
    first = loop(fp16_scaling=before, steps=2)
    next(iter(first))
    second = loop(fp16_scaling=not before, steps=2)
    second.load_state_dict(first.state_dict())
    assert [report.step for report in second] == [2]


def test_an_overflowing_gradient_is_skipped_and_lowers_the_scale():
    training = loop(fp16_scaling=True, measure_every=1, steps=2)
    before, scale = vectors(training), training.scaler.get_scale()
    training.scaler.load_state_dict({**training.scaler.state_dict(), "scale": 1e38})
    next(iter(training))
    assert torch.equal(vectors(training), before)
    assert training.scaler.get_scale() < 1e38 != scale


def test_balanced_weights_stay_while_a_gradient_is_zero():
    balanced = BalancedWeights({"context_embedding": 0.2}, {"context_embedding": 0.5})
    balanced.update({"diffusion": 1.0, "context_embedding": 0.0})
    assert balanced["context_embedding"] == 0.5
    with pytest.raises(ValueError, match="gradient shares"):
        BalancedWeights({"a": 0.5, "b": 0.5}, {})


def test_balanced_weights_ignore_gradients_at_a_terms_minimum():
    """There they are rounding alone: λ once rose to 1e13 on them, and the pictures counted for nothing."""
    shares = {"context_embedding": 0.3, "context_attention": 0.3}
    balanced = BalancedWeights(shares, WEIGHTS, from_minimum=True)
    balanced.update({"diffusion": 2e-2, "context_embedding": 1e-9, "context_attention": 0.0})
    assert {term: balanced[term] for term in shares} == {term: WEIGHTS[term] for term in shares}
    resumed = BalancedWeights(shares, WEIGHTS, from_minimum=True)
    resumed.load_state_dict(balanced.state_dict())
    norms = {"diffusion": 2e-2, "context_embedding": 0.1, "context_attention": 1e-4}
    for weighting in (balanced, resumed):
        weighting.update(norms)
        parts = {term: weighting.weights.get(term, 1.0) * norm for term, norm in norms.items()}
        assert {term: parts[term] / sum(parts.values()) for term in shares} == pytest.approx(shares)


@pytest.mark.parametrize("names", [["context_embedding"], ["context_embedding", "context_attention", "typo"], []])
def test_a_weight_that_is_missing_or_unknown_is_refused(names):
    with pytest.raises(ValueError, match=r"weights: got .*context_attention, context_embedding: give one"):
        context_regularization(weights=FixedWeights(dict.fromkeys(names, 1.0)))


def test_a_share_of_a_term_without_a_weight_is_refused():
    with pytest.raises(ValueError, match="gradient shares: typo has no weight"):
        BalancedWeights({"typo": 0.3}, WEIGHTS)


def test_a_state_without_a_weight_is_refused():
    state = loop().state_dict()
    del state["weighting"]["context_attention"]
    with pytest.raises(ValueError, match=r"start: .*no weight of context_attention"):
        loop().load_state_dict(state)


def test_recipes_of_one_config_balance_each_their_own_weights():
    weights = BalancedWeights({"context_attention": 0.3}, WEIGHTS)
    list(loop(weights=weights, measure_every=1))
    assert weights.weights == WEIGHTS
