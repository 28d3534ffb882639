"""Cross Initialization (Pang et al. 2023, arXiv 2312.15905): v starts as what the text encoder makes of the words.

A learned v ends near the text encoder's outputs, far from its vocabulary; so it starts there, and a weak term keeps it
near. Whoever makes the embedding starts it so: see `HostTextEncoder.word_outputs`.

Example::

    problem = EmbeddingProblem(encoder, denoiser, latents, ConceptEmbedding(initial))
    loop = TrainingLoop(CrossInitialization(problem), LoopConfig(steps=320, learning_rate=5e-3))
    for report in loop:
        print(report.step, report.terms["embedding_anchor"])
    vectors = problem.embedding.snapshot()
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..losses.embedding_anchor import embedding_anchor_loss
from ..training.embedding_problem import EmbeddingProblem, EmbeddingRecipe
from ..training.objective import FixedWeights, TrainingStep, term
from ..training.training_loop import RandomStreams

ANCHOR = "embedding_anchor"
ANCHOR_WEIGHT = 1e-5
"""As published."""


class CrossInitialization(EmbeddingRecipe):
    """With two text encoders (SDXL), the anchor is the mean of both."""

    def __init__(self, problem: EmbeddingProblem, batch_size: int = 8, anchor_weight: float = ANCHOR_WEIGHT) -> None:
        super().__init__(problem, FixedWeights({ANCHOR: anchor_weight}))
        self.batch_size = batch_size
        self.start = {name: v.detach().clone() for name, v in problem.embedding.vectors.items()}

    def training_step(self, random: RandomStreams) -> TrainingStep:
        batch = self.problem.draw(self.batch_size, random)
        cut = self.problem.encode(batch.captions)
        L_diffusion = term("diffusion", lambda: batch.diffusion_loss(self.problem.denoiser, cut.text))
        L_reg = term(ANCHOR, lambda: self.anchor(cut.vectors))
        return cut.step(L_diffusion + self.weights[ANCHOR] * L_reg)

    def anchor(self, vectors: dict[str, Tensor]) -> Tensor:
        return torch.stack([embedding_anchor_loss(v, self.start[name]) for name, v in vectors.items()]).mean()
