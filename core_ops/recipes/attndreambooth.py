"""AttnDreamBooth stage 1 (Pang et al. 2024): v in "a photo of a [V] <super-category>". Stages 2 and 3 train the U-Net:
see `identity_finetuning`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..conditioning import TextConditioning
from ..terms.aligned_diffusion import Alignment, aligned_diffusion
from ..training.embedding_problem import EmbeddingProblem, EmbeddingRecipe
from ..training.objective import TermGroup
from ..training.training_data import NoisedBatch


@dataclass(frozen=True)
class AttnDreamBoothConfig:
    """Stage 1 as published: batch 8, mean weight 0.1, variance weight 0."""

    batch_size: int
    alignment: Alignment


class AttnDreamBooth(EmbeddingRecipe):
    def __init__(self, config: AttnDreamBoothConfig, problem: EmbeddingProblem) -> None:
        super().__init__(problem, config.batch_size)
        self.config = config

    def terms(self, batch: NoisedBatch, text: TextConditioning) -> Iterator[TermGroup]:
        yield aligned_diffusion(self.problem.denoiser, batch, text, self.config.alignment)
