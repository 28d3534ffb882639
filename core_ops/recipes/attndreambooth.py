"""AttnDreamBooth stage 1 (Pang et al. 2024): v in "a photo of a [V] <super-category>". Stages 2 and 3 train the U-Net:
see `identity_finetuning`.

Example::

    problem = EmbeddingProblem(encoder, denoiser, latents, ConceptEmbedding(initial))
    recipe = AttnDreamBooth(AttnDreamBoothConfig(category_tokens=1), problem)
    for report in TrainingLoop(recipe, LoopConfig(steps=60, learning_rate=1e-3)):
        print(report.step, report.terms["attention_alignment"])
    vectors = problem.embedding.snapshot()
"""

from __future__ import annotations

from dataclasses import dataclass

from ..terms import Alignment, aligned_diffusion
from ..training.embedding_problem import EmbeddingProblem, EmbeddingRecipe
from ..training.objective import TrainingStep
from ..training.training_loop import RandomStreams


@dataclass(frozen=True)
class AttnDreamBoothConfig:
    """Stage 1 as published. category_tokens: how many tokens the super-category after the concept has."""

    category_tokens: int
    batch_size: int = 8
    mean_weight: float = 0.1
    variance_weight: float = 0.0


class AttnDreamBooth(EmbeddingRecipe):
    def __init__(self, config: AttnDreamBoothConfig, problem: EmbeddingProblem) -> None:
        super().__init__(problem)
        self.config = config
        self.alignment = Alignment(config.mean_weight, config.variance_weight, {0: config.category_tokens})

    def training_step(self, random: RandomStreams) -> TrainingStep:
        batch = self.problem.draw(self.config.batch_size, random)
        cut = self.problem.encode(batch.captions)
        return cut.step(aligned_diffusion(self.problem.denoiser, batch, cut.text, self.alignment))
