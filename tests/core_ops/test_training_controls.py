"""Learning-rate schedules, min-SNR, moving average, caption dropout: off they change nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from core_ops.toy_models import ToyDenoiser, ToyTextEncoder, dog_embedding, images, pair, row
from core_personalization.core_ops.diffusion_process import NoiseSchedule
from core_personalization.core_ops.recipes.textual_inversion import TextualInversion
from core_personalization.core_ops.training.embedding_problem import EmbeddingProblem
from core_personalization.core_ops.training.training_data import draw_batch
from core_personalization.core_ops.training.training_loop import LoopConfig, TrainingLoop


def loop(min_snr=0.0, **config) -> TrainingLoop:
    encoder = ToyTextEncoder()
    problem = EmbeddingProblem(encoder, ToyDenoiser(), images(), dog_embedding(encoder), min_snr=min_snr)
    settings = {"steps": 6, "learning_rate": 0.05, "measure_every": 0}
    return TrainingLoop(TextualInversion(problem, 3), LoopConfig(**settings | config))


def vectors(training: TrainingLoop) -> torch.Tensor:
    return training.recipe.parameters[0].detach().clone()


def trained(**given) -> torch.Tensor:
    training = loop(**given)
    list(training)
    return vectors(training)


def test_the_rate_of_each_step_is_the_factor_of_the_rate():
    """As an optimizer whose rate is set by hand before each step."""

    def factor(step: int) -> float:
        return 1 / (1 + step)

    by_hand = loop()
    steps = iter(by_hand)
    for step in range(6):
        by_hand._rates = [0.05 * factor(step)]
        next(steps)
    assert torch.equal(trained(rate_factor=factor), vectors(by_hand))
    assert torch.equal(trained(rate_factor=lambda step: 1.0), trained())
    assert torch.equal(trained(rate_factor=lambda step: 0.0), loop().recipe.parameters[0])


def test_an_average_changes_nothing_that_is_trained_and_is_what_it_says():
    training, plain = loop(average_decay=0.6), loop()
    average = vectors(training)
    for number, _ in enumerate(zip(training, plain, strict=True), start=1):
        assert torch.equal(vectors(training), vectors(plain))
        decay = min(0.6, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * vectors(plain)
        with training.averaged():
            torch.testing.assert_close(vectors(training), average)
            kept = training.recipe.parameters[0].detach()
        torch.testing.assert_close(kept, average)  # what was taken out stays what it was
        assert torch.equal(vectors(training), vectors(plain))


@pytest.mark.parametrize("stop", [1, 4])
def test_it_goes_on_bit_for_bit_with_average_and_schedule(stop):
    def started() -> TrainingLoop:
        return loop(average_decay=0.9, rate_factor=lambda step: math.cos(step / 8), min_snr=5.0)

    whole, first, second = started(), started(), started()
    list(whole)
    for report in first:
        if report.step == stop:
            break
    second.load_state_dict(first.state_dict())
    list(second)
    assert torch.equal(vectors(whole), vectors(second))
    with whole.averaged(), second.averaged():
        assert torch.equal(vectors(whole), vectors(second))


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_is_that_of_diffusers_training_scripts(prediction, gamma):
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    scheduler = DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    t = torch.tensor([0, 5, 100, 400, 700, 999])
    snr = compute_snr(scheduler, t)
    wanted = snr.clamp(max=gamma) / (snr if prediction == "epsilon" else snr + 1)
    ours = NoiseSchedule(scheduler.alphas_cumprod, prediction).min_snr(t, gamma)
    torch.testing.assert_close(ours, wanted)


def test_min_snr_is_defined_where_there_is_no_signal():
    """Zero terminal SNR."""
    alphas = torch.tensor([0.9, 0.5, 0.0])
    for prediction, last in (("epsilon", 1.0), ("v", 0.0)):
        weights = NoiseSchedule(alphas, prediction).min_snr(torch.arange(3), 5.0)
        assert weights.isfinite().all() and weights[-1] == last


def test_min_snr_weighs_the_loss_of_each_sample():
    data, denoiser, encoder = images(masked=True), ToyDenoiser(), ToyTextEncoder()
    text = encoder.encode(data.captions, dog_embedding(encoder).vectors)
    plain, weighted = (
        draw_batch(data, denoiser.schedule, 5, torch.Generator().manual_seed(2), min_snr) for min_snr in (0.0, 3.0)
    )
    (part,) = plain.parts
    errors = (denoiser(part.z_t, part.t, text) - part.target).square() * part.mask
    weights = denoiser.schedule.min_snr(part.t, 3.0).reshape(-1, 1, 1, 1)
    wanted = (errors * weights).mean() / part.mask.mean()
    torch.testing.assert_close(weighted.diffusion_loss(denoiser, text), wanted)
    assert wanted.item() != plain.diffusion_loss(denoiser, text).item()


def test_captions_are_left_out_as_often_as_asked_and_else_the_draw_is_the_same():
    own, nothing = pair([3], []).concept, row()
    data = replace(images(), captions=[own, nothing])
    schedule = ToyDenoiser().schedule
    for rate in (0.0, 0.3, 1.0):
        random, left_out = torch.Generator().manual_seed(1), 0
        for _ in range(100):
            batch = draw_batch(replace(data, caption_dropout=rate), schedule, 6, random)
            (part,) = batch.parts
            left_out += sum(batch.captions[index] is nothing for index in part.caption_of_sample.tolist())
        assert abs(left_out / 600 - rate) < 0.08
    once = [
        draw_batch(replace(data, caption_dropout=rate), schedule, 6, torch.Generator().manual_seed(3))
        for rate in (0, 1)
    ]
    assert torch.equal(once[0].parts[0].z_t, once[1].parts[0].z_t)
