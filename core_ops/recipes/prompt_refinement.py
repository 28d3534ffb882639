"""CoRe at test time (Wu et al. 2024, "Test-Time Optimization"): v refined for one prompt, without a diffusion loss.

The prompt is compared with itself, the super-category in the concept's place. No picture is needed: z_t is
noise of the size that will be drawn, or given latents noised. It is drawn once, so that the reference's attention is
computed once and every step is measured by the same yardstick.

Example::

    noised = noised_latents(z, denoiser.schedule, range(900, 1000), 6, torch.Generator().manual_seed(0))
    embedding = ConceptEmbedding(initial)
    recipe = PromptRefinement(RefinementConfig(), RefinementProblem(encoder, denoiser, prompts[0], noised, embedding))
    for report in TrainingLoop(recipe, LoopConfig(steps=10, learning_rate=5e-4)):
        print(report.step, report.terms)
    vectors = embedding.snapshot()
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..conditioning import Embedding, TextConditioning, TextEncoder
from ..diffusion_process import Denoiser, NoiseSchedule
from ..losses.context_losses import Formulation, token_means
from ..prompts.token_rows import AlignedPair
from ..scores.token_similarity import context_similarities
from ..terms import ATTENTION, EMBEDDING, PUBLISHED_WEIGHTS, attention_term, embedding_term
from ..training.embedding_problem import ConceptEmbedding, DetachedText
from ..training.objective import FixedWeights, Objective, TrainingStep, term
from ..training.training_loop import RandomStreams


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
    """weights: λ of both terms; only their ratio matters. reach: limit on ‖Δv‖ of each vector, as a part of its ‖v‖; 0
    for none, as published. shared_queries (ours): in a step, the prompt's keys are asked by the queries of the
    reference's pass, which is made once; then no step runs the U-Net.
    """

    formulation: Formulation = "paper"
    reach: float = 0.0
    shared_queries: bool = False
    weights: FixedWeights = field(default_factory=lambda: FixedWeights(PUBLISHED_WEIGHTS))


@dataclass(frozen=True)
class Measurement:
    """Both terms, by name; and of each context token the cosine of its output embedding with the reference's."""

    terms: Mapping[str, float]
    similarities: tuple[float, ...]


class PromptRefinement:
    """A `Recipe` whose parameters are the concept's vectors.

    Raises ValueError when a term has no weight, or another one has.
    """

    def __init__(self, config: RefinementConfig, problem: RefinementProblem) -> None:
        config.weights.validate(PUBLISHED_WEIGHTS)
        self.config, self.problem, self.weights = config, problem, copy.deepcopy(config.weights)
        self.start = problem.embedding.snapshot()

    def begin_at(self, vectors: Embedding) -> None:
        """Before the first step."""
        self.problem.embedding.set(vectors)
        self.start = self.problem.embedding.snapshot()

    @property
    def parameters(self) -> list[Tensor]:
        return self.problem.embedding.parameters

    def training_step(self, random: RandomStreams) -> TrainingStep:
        cut = DetachedText(self._encoded(), self.problem.embedding)
        means = self._shared_means if self.config.shared_queries else self._means
        return cut.step(self.objective(cut.text, means))

    def objective(self, text: TextConditioning, means: Callable[[TextConditioning], Tensor]) -> Objective:
        """Eq. 5 without its first term; `text` is the encoded prompt, means: μ of Eq. 4 of a text."""
        λ, pair, formulation = self.weights, self.problem.pair, self.config.formulation
        L_emb = term(EMBEDDING, lambda: embedding_term(text, self._reference, pair, formulation))
        L_attn = term(ATTENTION, lambda: attention_term(means(text), self._reference_means, pair, formulation))
        return λ[EMBEDDING] * L_emb + λ[ATTENTION] * L_attn

    def update(self, step: int) -> AbstractContextManager[None]:
        reach = self.config.reach
        return trust_region(self.problem.embedding, self.start, reach) if reach else nullcontext()

    def observations(self) -> dict[str, float]:
        change, norm = change_norms(self.start, self.problem.embedding.snapshot())
        return {"relative_change": change / norm}

    @torch.no_grad()
    def measure(self, shared_queries: bool = False) -> Measurement:
        """For the embedding as it is; as published, or as steps with shared queries have it."""
        text = self._encoded()
        passes = self.objective(text, self._shared_means if shared_queries else self._means).passes
        terms = {name: float(value) for each in passes for name, value in each.computed().items()}
        similarities = context_similarities(text, self._reference, self.problem.pair)
        return Measurement(terms, tuple(similarities.tolist()))

    def _encoded(self) -> TextConditioning:
        return self.problem.encoder.encode([self.problem.pair.concept], self.problem.embedding.vectors)

    def _means(self, text: TextConditioning) -> Tensor:
        """μ of Eq. 4 on the noise that was drawn: [L, B, N]."""
        noised = self.problem.noised
        return torch.stack(self.problem.denoiser.with_attention(noised.z_t, noised.t, text, token_means)[1])

    def _shared_means(self, text: TextConditioning) -> Tensor:
        """The same by the queries of the reference's pass."""
        denoiser, t = self.problem.denoiser, self.problem.noised.t
        return torch.stack(denoiser.attention_of(self._reference_queries, t, text, token_means))

    @cached_property
    def _reference(self) -> TextConditioning:
        with torch.no_grad():
            return self.problem.encoder.encode([self.problem.pair.reference], {})

    @cached_property
    def _reference_means(self) -> Tensor:
        with torch.no_grad():  # its own queries ask its keys: both ways are the same, and shared queries are kept
            return (self._shared_means if self.config.shared_queries else self._means)(self._reference)

    @cached_property
    def _reference_queries(self) -> list[Tensor]:
        noised = self.problem.noised
        with torch.no_grad():
            return self.problem.denoiser.with_queries(noised.z_t, noised.t, self._reference)[1]


class BestVectors:
    """Keeps the vectors at which the term that fell least, compared with its start, is lowest: none has risen then.

    terms: names of those that count.
    """

    def __init__(self, terms: Collection[str]) -> None:
        self._terms = terms
        self._first: Mapping[str, float] = {}
        self._lowest = math.inf
        self.vectors: Embedding = {}

    def update(self, terms: Mapping[str, float], vectors: Embedding) -> None:
        self._first = self._first or terms
        worst = max((_ratio(terms[name], self._first[name]) for name in self._terms), default=1.0)
        if worst < self._lowest:
            self._lowest, self.vectors = worst, vectors


def _ratio(value: float, first: float) -> float:
    """How far a term fell; one that began at its minimum can only stay there."""
    if value == first:
        return 1.0
    return value / first if first > 0 else math.inf


def projected(vectors: Tensor, start: Tensor, limit: float) -> Tensor:
    """The nearest vectors [V, D] with ‖v − v₀‖ ≤ limit · ‖v₀‖ for each of them; v₀ is `start`."""
    change = vectors - start
    allowed = limit * start.norm(dim=-1, keepdim=True)
    return start + change * (allowed / change.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)


@contextmanager
def trust_region(embedding: ConceptEmbedding, start: Embedding, limit: float) -> Iterator[None]:
    """Around an optimizer update: every vector that left the limit around `start` is brought back to it."""
    yield
    for name, vectors in embedding.vectors.items():
        vectors.copy_(projected(vectors, start[name].to(vectors), limit))


def change_norms(start: Embedding, vectors: Embedding) -> tuple[float, float]:
    """‖v − v₀‖ and ‖v₀‖ over all vectors and encoders."""
    change = torch.cat([(vectors[name] - start[name]).flatten() for name in start])
    return float(change.norm()), float(torch.cat([value.flatten() for value in start.values()]).norm())
