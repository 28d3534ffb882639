"""Textual Inversion with ViCo's regularizer (Hao et al. 2023, arXiv 2306.00971): v looks where end-of-text looks.

End-of-text attends to the thing that a prompt is about. Only the regularizer is ViCo's: its image cross-attention and
the reference pictures that feed it are not here, so the maps are those of the diffusion loss's own forward pass.

Example::

    problem = EmbeddingProblem(encoder, denoiser, latents, ConceptEmbedding(initial))
    loop = TrainingLoop(ViCoRegularization(problem), LoopConfig(steps=400, learning_rate=5e-3))
    for report in loop:
        print(report.step, report.terms["attention_to_end"])
    vectors = problem.embedding.snapshot()
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..conditioning import TextConditioning
from ..losses.attention_to_end import attention_to_end_loss, distance_to_end
from ..prompts.token_rows import span_weights
from ..training.embedding_problem import EmbeddingProblem, EmbeddingRecipe
from ..training.objective import FixedWeights, Objective, TrainingStep, terms
from ..training.training_data import NoisedBatch
from ..training.training_loop import RandomStreams

TO_END = "attention_to_end"
TO_END_WEIGHT = 5e-4
"""As published."""


class ViCoRegularization(EmbeddingRecipe):
    def __init__(self, problem: EmbeddingProblem, batch_size: int = 4, weight: float = TO_END_WEIGHT) -> None:
        super().__init__(problem, FixedWeights({TO_END: weight}))
        self.batch_size = batch_size

    def training_step(self, random: RandomStreams) -> TrainingStep:
        batch = self.problem.draw(self.batch_size, random)
        cut = self.problem.encode(batch.captions)
        return cut.step(self.objective(batch, cut.text))

    def objective(self, batch: NoisedBatch, text: TextConditioning) -> Objective:
        spans = span_weights([caption.span for caption in batch.captions], len(batch.captions[0].weights))
        ends = torch.tensor([caption.end for caption in batch.captions])
        spans, ends = spans.to(text.context.device), ends.to(text.context.device)

        def losses() -> tuple[Tensor, Tensor]:
            predictions, distances = batch.with_attention(
                self.problem.denoiser,
                text,
                statistic_of=lambda part: distance_to_end(spans[part.caption_of_sample], ends[part.caption_of_sample]),
            )
            return batch.loss_of(predictions), attention_to_end_loss(distances)

        return terms({"diffusion": 1.0, TO_END: self.weights[TO_END]}, losses)
