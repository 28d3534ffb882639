"""Textual Inversion of an embedding that differs by layer (XTI) or by layer and timestep (NeTI): L_diffusion alone.

Example::

    problem = EmbeddingProblem(encoder, denoiser, latents, LayerVectors.starting_from(initial, 16))
    for report in TrainingLoop(SpaceTimeInversion(problem), LoopConfig(steps=500, learning_rate=5e-3)):
        print(report.step, report.terms["diffusion"])
    tensors = problem.embedding.tensors()
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..space_time.space_time_embedding import SpaceTimeEmbedding
from ..training.embedding_problem import EmbeddingProblem, EmbeddingRecipe
from ..training.objective import TrainingStep, term
from ..training.training_data import NoisedBatch
from ..training.training_loop import RandomStreams


class SpaceTimeInversion(EmbeddingRecipe):
    def __init__(self, problem: EmbeddingProblem, batch_size: int = 8) -> None:
        super().__init__(problem)
        self.batch_size = batch_size

    def training_step(self, random: RandomStreams) -> TrainingStep:
        batch = self.problem.draw(self.batch_size, random)
        return TrainingStep(term("diffusion", lambda: self.diffusion_loss(batch, random["prompts"])), self.parameters)

    def diffusion_loss(self, batch: NoisedBatch, random: torch.Generator | None = None) -> Tensor:
        """random: of a training, for what the embedding draws there."""
        embedding, encoder, denoiser = self.problem.embedding, self.problem.encoder, self.problem.denoiser
        assert isinstance(embedding, SpaceTimeEmbedding)
        if not embedding.timed:  # each caption is encoded once
            t = batch.parts[0].t.new_zeros(len(batch.captions))
            return batch.diffusion_loss(denoiser, embedding.text(encoder, batch.captions, t))
        predictions = [
            denoiser(part.z_t, part.t, embedding.text(encoder, part.captions, part.t, random)) for part in batch.parts
        ]
        return batch.loss_of(predictions)
