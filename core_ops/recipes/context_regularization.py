"""CoRe stage 1 (Wu et al. 2024, "CoRe: Context-Regularized Text Embedding Learning"): v with regularized context.

A prompt with the concept and the same prompt with its super-category should give the words around them the same output
embeddings and the same attention. No image of that prompt is needed, so any prompt will do: one is drawn each step.

Example::

    problem = EmbeddingProblem(encoder, denoiser, latents, ConceptEmbedding(initial))
    recipe = ContextRegularization(ContextRegularizationConfig(), problem, prompts)
    for report in TrainingLoop(recipe, LoopConfig(steps=300, learning_rate=5e-3)):
        print(report.step, report.terms)
    vectors = problem.embedding.snapshot()
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..conditioning import TextConditioning
from ..losses.context_losses import Formulation, token_means
from ..prompts.token_rows import AlignedPair
from ..terms import ATTENTION, EMBEDDING, PUBLISHED_WEIGHTS, attention_term, embedding_term
from ..training.embedding_problem import EmbeddingProblem, EmbeddingRecipe
from ..training.objective import FixedWeights, Objective, TrainingStep, term, terms
from ..training.training_data import NoisedBatch
from ..training.training_loop import RandomStreams


@dataclass(frozen=True)
class ContextRegularizationConfig:
    """Defaults of the paper's Appendix G.

    weights: λ of Eq. 5, of both regularizers. rescale_from, rescale_to: steps, counted from 1 and both included, in
    which ‖v‖ is kept (Eq. 6). regularization_batch: samples of the batch that L_attn looks at; 0 for all of them. The
    batch is drawn at random, so that fewer estimate the same loss without bias.
    """

    batch_size: int = 6
    formulation: Formulation = "paper"
    rescale_from: int = 120
    rescale_to: int = 180
    regularization_batch: int = 0
    weights: FixedWeights = field(default_factory=lambda: FixedWeights(PUBLISHED_WEIGHTS))


class ContextRegularization(EmbeddingRecipe):
    """Algorithm 1: `training_step` draws and weighs, `update` surrounds the optimizer's step.

    Raises ValueError when a regularizer has no weight, or another term has one.
    """

    def __init__(
        self, config: ContextRegularizationConfig, problem: EmbeddingProblem, prompts: Sequence[AlignedPair]
    ) -> None:
        config.weights.validate(PUBLISHED_WEIGHTS)
        super().__init__(problem, copy.deepcopy(config.weights))  # balanced ones change in a training
        self.config, self.prompts = config, prompts
        self._references: dict[int, TextConditioning] = {}
        for pair in prompts:  # copied to the device now: the first step with a prompt would wait for it
            pair.positions(self.parameters[0].device)

    def training_step(self, random: RandomStreams) -> TrainingStep:
        """Pictures, noise levels and noise are drawn; and a prompt that v is regularized in."""
        batch = self.problem.draw(self.config.batch_size, random)
        drawn = int(torch.randint(len(self.prompts), (), generator=random["prompts"]))
        pair, reference, count = self.prompts[drawn], self.reference(drawn), len(batch.captions)
        cut = self.problem.encode([*batch.captions, pair.concept])
        return cut.step(self.objective(batch, (cut.text[:count], cut.text[count:]), reference, pair))

    def objective(
        self,
        batch: NoisedBatch,
        texts: tuple[TextConditioning, TextConditioning],
        reference: TextConditioning,
        pair: AlignedPair,
    ) -> Objective:
        """Eq. 5; texts: of the batch's captions, and of the prompt with the concept."""
        captions, prompt = texts
        λ = self.weights

        L_diffusion = term("diffusion", lambda: batch.diffusion_loss(self.problem.denoiser, captions))
        L_emb = term(EMBEDDING, lambda: self.embedding_loss(prompt, reference, pair))
        L_attn = term(ATTENTION, lambda: self.attention_loss(batch, prompt, reference, pair))
        return L_diffusion + λ[EMBEDDING] * L_emb + λ[ATTENTION] * L_attn

    @contextmanager
    def update(self, step: int) -> Iterator[None]:
        """Eq. 6 around the optimizer's update: in the middle of the training v turns, and keeps its norm."""
        first = self.config.rescale_from
        if self.config.formulation == "reference_code":
            first += 1  # the released program keeps the norm that v has after step rescale_from
        kept = first <= step <= self.config.rescale_to
        norms = self.problem.embedding.norms() if kept else {}
        yield
        for name, norm in norms.items():
            v = self.problem.embedding.vectors[name]
            v.copy_(rescale_to_norm(v, norm))

    def embedding_loss(self, text: TextConditioning, reference: TextConditioning, pair: AlignedPair) -> Tensor:
        """Eq. 3 between the encoded prompt and its reference."""
        return embedding_term(text, reference, pair, self.config.formulation)

    def attention_loss(
        self, batch: NoisedBatch, text: TextConditioning, reference: TextConditioning, pair: AlignedPair
    ) -> Tensor:
        """Eq. 4 with the z_t and t of this step's batch."""
        samples = batch.first(self.config.regularization_batch) if self.config.regularization_batch else batch
        μ = self.mean_attention(samples, text)
        with torch.no_grad():
            μ_reference = self.mean_attention(samples, reference)
        sums = self.config.formulation == "reference_code"  # over the batch, whose other samples these stand for
        shown = batch.samples / samples.samples if sums else 1.0
        return shown * attention_term(μ, μ_reference, pair, self.config.formulation)

    def mean_attention(self, batch: NoisedBatch, text: TextConditioning) -> Tensor:
        """μ of Eq. 4 for one prompt, [L, B, N]."""
        return batch.with_attention(self.problem.denoiser, text, statistic_of=lambda _: token_means)[1]

    def reference(self, drawn: int) -> TextConditioning:
        """Output embeddings of the reference prompt; it does not depend on v, so each is encoded once."""
        if drawn not in self._references:
            with torch.no_grad():
                self._references[drawn] = self.problem.encoder.encode([self.prompts[drawn].reference], {})
        return self._references[drawn]


class SharedQueries(ContextRegularization):
    """CoRe fast (ours): both prompts' attention is read off the pass that L_diffusion makes.

    Eq. 4 runs the U-Net twice more, with the prompt and with its reference, at the same z_t and t. What a layer's
    pixels ask for, its queries, hardly depends on the prompt; before the first cross-attention not at all, but for
    SDXL's pooled text. Here the queries of the pictures' own pass stand for those of both prompts; keys and softmax are
    as in Eq. 4. Then L_attn needs no forward pass, and its gradient reaches v through the keys alone.
    """

    def objective(
        self,
        batch: NoisedBatch,
        texts: tuple[TextConditioning, TextConditioning],
        reference: TextConditioning,
        pair: AlignedPair,
    ) -> Objective:
        captions, prompt = texts
        λ = self.weights

        def one_pass() -> tuple[Tensor, Tensor]:
            predictions, asked = batch.with_queries(self.problem.denoiser, captions)
            return batch.loss_of(predictions), self.attention_loss(asked, prompt, reference, pair)

        L_emb = term(EMBEDDING, lambda: self.embedding_loss(prompt, reference, pair))
        return terms({"diffusion": 1.0, ATTENTION: λ[ATTENTION]}, one_pass) + λ[EMBEDDING] * L_emb

    def mean_attention(self, batch: NoisedBatch, text: TextConditioning) -> Tensor:
        """μ of Eq. 4 for one prompt by the batch's queries, [L, B, N]."""
        return batch.attention_of(self.problem.denoiser, text, token_means)


def rescale_to_norm(vectors: Tensor, norm: Tensor) -> Tensor:
    """Eq. 6, v / ‖v‖ · norm for each vector: vectors [V, D], norm [V, 1]."""
    return vectors * (norm / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12))
