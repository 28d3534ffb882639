"""The steady loss: the same draw again and again, without a trace in the training."""

from __future__ import annotations

import torch
from core_personalization.core_ops.recipes.textual_inversion import TextualInversion
from core_personalization.core_ops.training.embedding_problem import EmbeddingProblem
from core_personalization.core_ops.training.steady_loss import SteadyLoss, SteadyPlan
from core_personalization.core_ops.training.training_loop import LoopConfig, TrainingLoop

from .toy_models import ToyDenoiser, ToyTextEncoder, dog_embedding, images


def problem(masked: bool = False) -> EmbeddingProblem:
    encoder = ToyTextEncoder()
    return EmbeddingProblem(encoder, ToyDenoiser(), images(masked=masked), dog_embedding(encoder))


def steady(of: EmbeddingProblem, samples: int = 6, at_once: int = 4) -> SteadyLoss:
    return SteadyLoss(of.denoiser.schedule, of.latents, TextualInversion(of).diffusion_loss, samples, at_once)


def test_it_is_the_same_each_time_however_it_is_divided():
    subject = problem(masked=False)
    measured = steady(subject)
    assert measured() == measured() == steady(subject)()
    torch.testing.assert_close(steady(subject, at_once=1)(), measured(), rtol=1e-6, atol=0)
    assert steady(subject, samples=7)() != measured()


def test_every_picture_and_all_noise_levels_are_in_it():
    seen = []
    subject = problem()
    denoiser = subject.denoiser.__class__.__call__
    subject.denoiser.__class__.__call__ = lambda self, z_t, t, text: (seen.append(t), denoiser(self, z_t, t, text))[1]
    try:
        steady(subject, samples=10)()
    finally:
        subject.denoiser.__class__.__call__ = denoiser
    assert sorted(torch.cat(seen).tolist()) == [2, 7, 12, 17, 22, 27, 32, 37, 42, 47]
    changed = problem()
    for picture in range(3):
        changed.latents.latents[picture] += 1
        assert steady(changed)() != steady(subject)()
        changed.latents.latents[picture] -= 1


def test_measuring_changes_nothing_of_a_training_and_follows_it():
    learned, curves = [], []
    for measuring in (True, False):
        subject = problem()
        torch.manual_seed(7)
        measured, curve = steady(subject, samples=16), []
        for _ in TrainingLoop(TextualInversion(subject, 4), LoopConfig(30, 1e-2)):
            if measuring:
                curve.append(measured())
        learned.append(subject.embedding.snapshot()["toy"])
        curves.append(curve)
        assert torch.initial_seed() == 7
    assert torch.equal(*learned)
    assert curves[0][-1] < curves[0][0]
    rises = sum(after > before for before, after in zip(curves[0], curves[0][1:], strict=False))
    assert rises < 10, "it is steady"


def test_it_costs_a_twentieth_of_a_training_at_most_and_gives_a_curve():
    for steps, batch_size in ((300, 6), (1000, 4), (500, 1), (60, 8), (100, 6), (5000, 6)):
        plan = SteadyPlan.within(steps, batch_size)
        points = steps // plan.every
        assert 10 <= points <= 40
        assert points * plan.samples <= 0.05 * 2 * steps * batch_size
    assert SteadyPlan.within(1, 1) == SteadyPlan(1, 4)
