"""CoRe stage 1 (Wu et al. 2024, "CoRe: Context-Regularized Text Embedding Learning"): v with regularized context.

A prompt with the concept and the same prompt with its super-category should give the words around them the same output
embeddings and the same attention. No image of that prompt is needed, so any prompt will do: one is drawn each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..concept.norm_rescaling import kept_norms
from ..conditioning import TextConditioning
from ..losses.context_embedding import Formulation
from ..prompts.token_rows import AlignedPair
from ..terms.context_terms import attention_means, attention_term, embedding_term
from ..training.embedding_problem import EmbeddingProblem, EmbeddingRecipe
from ..training.objective import Term, TermGroup, TrainingStep
from ..training.training_data import NoisedBatch
from ..training.training_loop import RandomStreams


@dataclass(frozen=True)
class ContextRegularizationConfig:
    """Defaults of the paper's Appendix G; λ_emb and λ_attn are the loop's weights.

    rescale_from, rescale_to: steps, counted from 1 and both included, in which ‖v‖ is kept (Eq. 6).
    regularization_batch: samples of the batch that L_attn looks at; 0 for all of them.
    """

    batch_size: int = 6
    formulation: Formulation = "paper"
    rescale_from: int = 120
    rescale_to: int = 180
    regularization_batch: int = 0


WEIGHTS = {"diffusion": 1.0, "context_embedding": 1.5e-4, "context_attention": 0.05}
"""λ of Eq. 5 as published."""


class ContextRegularization(EmbeddingRecipe):
    def __init__(
        self, config: ContextRegularizationConfig, problem: EmbeddingProblem, prompts: Sequence[AlignedPair]
    ) -> None:
        super().__init__(problem, config.batch_size)
        self.config, self.prompts = config, prompts
        self._references: dict[int, TextConditioning] = {}
        for pair in prompts:  # copied to the device now: the first step with a prompt would wait for it
            pair.positions(self.parameters[0].device)

    def training_step(self, random: RandomStreams) -> TrainingStep:
        batch = self.draw_batch(random)
        drawn = int(torch.randint(len(self.prompts), (), generator=random["prompts"]))
        cut = self.encode([*batch.rows, self.prompts[drawn].concept])
        return TrainingStep(self._terms(batch, cut.text, drawn), cut.leaves, cut.pull_back)

    def _terms(self, batch: NoisedBatch, text: TextConditioning, drawn: int) -> Iterator[TermGroup]:
        """`text` holds the batch's rows and, after them, the drawn prompt."""
        count, pair, reference = len(batch.rows), self.prompts[drawn], self.reference(drawn)
        yield (Term("diffusion", batch.diffusion_loss(self.problem.denoiser, text[:count])),)
        yield (Term("context_embedding", self.embedding_loss(text[count:], reference, pair)),)
        yield (Term("context_attention", self.attention_loss(batch, text[count:], reference, pair)),)

    def embedding_loss(self, text: TextConditioning, reference: TextConditioning, pair: AlignedPair) -> Tensor:
        """Eq. 3."""
        return embedding_term(text, reference, pair, self.config.formulation)

    def attention_loss(
        self, batch: NoisedBatch, text: TextConditioning, reference: TextConditioning, pair: AlignedPair
    ) -> Tensor:
        """Eq. 4 with the z_t and t of this step's batch."""
        samples = slice(self.config.regularization_batch or None)
        z_t, t = batch.z_t[samples], batch.t[samples]
        means = attention_means(self.problem.denoiser, z_t, t, text)
        with torch.no_grad():
            reference_means = attention_means(self.problem.denoiser, z_t, t, reference)
        return attention_term(means, reference_means, pair, self.config.formulation)

    def reference(self, drawn: int) -> TextConditioning:
        """Output embeddings of the reference prompt; it does not depend on v, so each is encoded once."""
        if drawn not in self._references:
            with torch.no_grad():
                self._references[drawn] = self.problem.encoder.encode([self.prompts[drawn].reference], {})
        return self._references[drawn]

    def update(self, step: int) -> AbstractContextManager[None]:
        first = self.config.rescale_from
        if self.config.formulation == "reference_code":
            first += 1  # the released program keeps the norm that v has after step rescale_from
        return kept_norms(self.problem.embedding) if first <= step <= self.config.rescale_to else nullcontext()
