"""What reaches v in a step of the recipes beside CoRe's, against the loss written out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from core_personalization.core_ops.losses.attention_to_end import attention_to_end_loss, distance_to_end
from core_personalization.core_ops.losses.embedding_anchor import embedding_anchor_loss
from core_personalization.core_ops.recipes.cross_initialization import CrossInitialization
from core_personalization.core_ops.recipes.vico_regularization import ViCoRegularization
from core_personalization.core_ops.training.embedding_problem import ConceptEmbedding, EmbeddingProblem
from core_personalization.core_ops.training.training_loop import LoopConfig, TrainingLoop
from torch import Tensor

from .toy_models import BIG, DOG, ToyDenoiser, ToyTextEncoder, images, pair

CAPTION = pair([3], [DOG, 4], vectors=2).concept


def problem() -> EmbeddingProblem:
    latents, encoder = images(), ToyTextEncoder()
    latents = type(latents)(latents.latents, [CAPTION], torch.zeros_like(latents.caption_of_latent))
    return EmbeddingProblem(encoder, ToyDenoiser(), latents, ConceptEmbedding({"toy": encoder.vocabulary[[BIG, DOG]]}))


def gradient_of_a_step(recipe: CrossInitialization | ViCoRegularization) -> Tensor:
    """On v, as the loop hands it to its optimizer."""
    loop = TrainingLoop(recipe, LoopConfig(steps=1, learning_rate=0.0, measure_every=0))
    next(iter(loop))
    gradient = recipe.parameters[0].grad
    assert gradient is not None
    return gradient


def gradient_of(task: EmbeddingProblem, batch_size: int, loss: Callable[[object, object, Tensor], Tensor]) -> Tensor:
    """Of the same draw, by one graph from v to the loss."""
    batch = task.draw(batch_size, {"data": torch.Generator().manual_seed(0)})
    v = task.embedding.vectors["toy"]
    text = task.encoder.encode(batch.captions, {"toy": v})
    return torch.autograd.grad(loss(batch, text, v), v)[0]


def test_the_anchor_draws_v_itself():
    task = problem()
    recipe = CrossInitialization(task, batch_size=2, anchor_weight=3.0)
    with torch.no_grad():
        task.embedding.vectors["toy"] += 0.5
    ours = gradient_of_a_step(recipe)

    def loss(batch, text, v):
        return batch.diffusion_loss(task.denoiser, text) + 3.0 * embedding_anchor_loss(v, recipe.start["toy"])

    expected = gradient_of(task, 2, loss)
    torch.testing.assert_close(ours, expected)
    without = gradient_of(task, 2, lambda batch, text, v: batch.diffusion_loss(task.denoiser, text))
    assert (expected - without).norm() > 0.1 * without.norm()


def test_vicos_term_is_weighed_beside_the_loss_whose_maps_it_looks_at():
    task = problem()
    ours = gradient_of_a_step(ViCoRegularization(task, batch_size=2, weight=7.0))
    spans = torch.zeros(2, len(CAPTION.weights))
    spans[:, list(CAPTION.span)] = 1 / 2

    def loss(batch, text, v):
        statistic = distance_to_end(spans, torch.full((2,), CAPTION.end))
        predictions, distances = batch.with_attention(task.denoiser, text, statistic_of=lambda part: statistic)
        return batch.loss_of(predictions) + 7.0 * attention_to_end_loss(distances)

    torch.testing.assert_close(ours, gradient_of(task, 2, loss))
