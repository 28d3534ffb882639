"""Textual Inversion (Gal et al. 2022): v minimises the diffusion loss alone. The baseline of the other recipes."""

from __future__ import annotations

from collections.abc import Iterator

from ..conditioning import TextConditioning
from ..training.embedding_problem import EmbeddingRecipe
from ..training.objective import Term, TermGroup
from ..training.training_data import NoisedBatch


class TextualInversion(EmbeddingRecipe):
    def terms(self, batch: NoisedBatch, text: TextConditioning) -> Iterator[TermGroup]:
        yield (Term("diffusion", batch.diffusion_loss(self.problem.denoiser, text)),)
