"""Textual Inversion (Gal et al. 2022): v minimises the diffusion loss alone. The baseline of the other recipes.

Example::

    problem = EmbeddingProblem(encoder, denoiser, latents, ConceptEmbedding(initial))
    loop = TrainingLoop(TextualInversion(problem), LoopConfig(steps=5000, learning_rate=5e-3))
    for report in loop:
        print(report.step, report.terms["diffusion"])
    vectors = problem.embedding.snapshot()
"""

from __future__ import annotations

from ..training.embedding_problem import EmbeddingProblem, EmbeddingRecipe
from ..training.objective import TrainingStep, term
from ..training.training_loop import RandomStreams


class TextualInversion(EmbeddingRecipe):
    def __init__(self, problem: EmbeddingProblem, batch_size: int = 6) -> None:
        super().__init__(problem)
        self.batch_size = batch_size

    def training_step(self, random: RandomStreams) -> TrainingStep:
        batch = self.problem.draw(self.batch_size, random)
        cut = self.problem.encode(batch.captions)
        return cut.step(term("diffusion", lambda: batch.diffusion_loss(self.problem.denoiser, cut.text)))
