"""CoRe at test time (Wu et al. 2024, "Test-Time Optimization"): v refined for one prompt, without a diffusion loss.

The prompt is compared with itself, the super-category in the concept's place. No picture is needed: z_t is
noise of the size that will be drawn, or given latents noised. It is drawn once, so that the reference's attention is
computed once and every step is measured by the same yardstick.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..concept.concept_embedding import ConceptEmbedding
from ..concept.trust_region import change_norms, within_reach
from ..conditioning import Denoiser, Embedding, TextConditioning, TextEncoder
from ..losses.context_embedding import Formulation
from ..noising import NoiseSchedule
from ..prompts.token_rows import AlignedPair
from ..scores.context_similarity import context_similarities
from ..terms.context_terms import attention_means, attention_term, embedding_term
from ..training.objective import Term, TermGroup, TextCut, TrainingStep
from ..training.training_loop import RandomStreams

EMBEDDING, ATTENTION = "context_embedding", "context_attention"


@dataclass(frozen=True)
class NoisedLatents:
    """z_t [B, C, h, w] in the U-Net's scale, at integer timesteps t [B]."""

    z_t: Tensor
    t: Tensor


def noised_latents(
    latents: Tensor, schedule: NoiseSchedule, timesteps: range, batch_size: int, generator: torch.Generator
) -> NoisedLatents:
    """`latents` [I, C, h, w], taken in turn, at noise levels spread evenly from the highest of `timesteps` down.

    Zeros are pure noise, as the sampler starts from. ε is drawn on the CPU, so that a seed means the same everywhere.
    """
    t = torch.linspace(timesteps.stop - 1, timesteps.start, batch_size).round().long().to(latents.device)
    z = latents[torch.arange(batch_size, device=latents.device) % latents.shape[0]]
    noise = torch.randn(z.shape, generator=generator).to(z)
    return NoisedLatents(schedule.add_noise(z, noise, t), t)


@dataclass(frozen=True)
class RefinementProblem:
    """The frozen models, the prompt beside its reference, where to look, and the embedding to be refined."""

    encoder: TextEncoder
    denoiser: Denoiser
    pair: AlignedPair
    noised: NoisedLatents
    embedding: ConceptEmbedding


@dataclass(frozen=True)
class RefinementConfig:
    """reach: limit on ‖Δv‖ of each vector, as a part of its ‖v‖; 0 for none."""

    formulation: Formulation = "paper"
    reach: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """Both terms, by name; and of each context token the cosine of its output embedding with the reference's."""

    terms: Mapping[str, float]
    similarities: tuple[float, ...]


class PromptRefinement:
    """A `Recipe` whose parameters are the concept's vectors."""

    def __init__(self, config: RefinementConfig, problem: RefinementProblem) -> None:
        self.config, self.problem = config, problem
        self.start = problem.embedding.snapshot()

    @property
    def parameters(self) -> list[Tensor]:
        return self.problem.embedding.parameters

    def training_step(self, random: RandomStreams) -> TrainingStep:
        cut = TextCut(self._encoded(), self.parameters)
        return TrainingStep(self._terms(cut.text), cut.leaves, cut.pull_back)

    def update(self, step: int) -> AbstractContextManager[None]:
        reach = self.config.reach
        return within_reach(self.problem.embedding, self.start, reach) if reach else nullcontext()

    def observations(self) -> dict[str, float]:
        change, norm = change_norms(self.start, self.problem.embedding.snapshot())
        return {"relative_change": change / norm}

    @torch.no_grad()
    def measure(self) -> Measurement:
        """For the embedding as it is."""
        text = self._encoded()
        terms = {term.name: float(term.value) for group in self._terms(text) for term in group}
        similarities = context_similarities(text, self._reference, self.problem.pair)
        return Measurement(terms, tuple(similarities.tolist()))

    def _terms(self, text: TextConditioning) -> Iterator[TermGroup]:
        pair, formulation = self.problem.pair, self.config.formulation
        yield (Term(EMBEDDING, embedding_term(text, self._reference, pair, formulation)),)
        yield (Term(ATTENTION, attention_term(self._means(text), self._reference_means, pair, formulation)),)

    def _encoded(self) -> TextConditioning:
        return self.problem.encoder.encode([self.problem.pair.concept], self.problem.embedding.vectors)

    def _means(self, text: TextConditioning) -> Tensor:
        return attention_means(self.problem.denoiser, self.problem.noised.z_t, self.problem.noised.t, text)

    @cached_property
    def _reference(self) -> TextConditioning:
        with torch.no_grad():
            return self.problem.encoder.encode([self.problem.pair.reference], {})

    @cached_property
    def _reference_means(self) -> Tensor:
        with torch.no_grad():
            return self._means(self._reference)


class LowestOfAll:
    """Keeps the vectors at which the term that fell least, compared with its start, is lowest: none has risen then.

    terms: names of those that count.
    """

    def __init__(self, terms: Collection[str]) -> None:
        self._terms = terms
        self._first: Mapping[str, float] = {}
        self._lowest = math.inf
        self.vectors: Embedding = {}

    def offer(self, terms: Mapping[str, float], vectors: Embedding) -> None:
        self._first = self._first or terms
        worst = max((_fallen_to(terms[name], self._first[name]) for name in self._terms), default=1.0)
        if worst < self._lowest:
            self._lowest, self.vectors = worst, vectors


def _fallen_to(value: float, first: float) -> float:
    if value == first:
        return 1.0
    return value / first if first > 0 else math.inf
