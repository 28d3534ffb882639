"""What all methods share that train v against noised pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from ..concept.concept_embedding import ConceptEmbedding
from ..conditioning import Denoiser, TextConditioning, TextEncoder
from ..prompts.token_rows import TokenRow
from .objective import TermGroup, TextCut, TrainingStep
from .training_data import NoisedBatch, TrainingImages, draw_batch
from .training_loop import RandomStreams


@dataclass(frozen=True)
class EmbeddingProblem:
    """The frozen models, the pictures, and the embedding to be learned."""

    encoder: TextEncoder
    denoiser: Denoiser
    images: TrainingImages
    embedding: ConceptEmbedding


class EmbeddingRecipe:
    """A `Recipe` whose parameters are the concept's vectors; a method gives its `terms`."""

    def __init__(self, problem: EmbeddingProblem, batch_size: int) -> None:
        self.problem, self.batch_size = problem, batch_size

    @property
    def parameters(self) -> list[Tensor]:
        return self.problem.embedding.parameters

    def training_step(self, random: RandomStreams) -> TrainingStep:
        batch = self.draw_batch(random)
        cut = self.encode(batch.rows)
        return TrainingStep(self.terms(batch, cut.text), cut.leaves, cut.pull_back)

    def terms(self, batch: NoisedBatch, text: TextConditioning) -> Iterator[TermGroup]:
        """The method's terms; `text` holds one output row for each of the batch's rows."""
        raise NotImplementedError

    def update(self, step: int) -> AbstractContextManager[None]:
        return nullcontext()

    def observations(self) -> dict[str, float]:
        return {"embedding_norm": self.problem.embedding.mean_norm()}

    def draw_batch(self, random: RandomStreams) -> NoisedBatch:
        return draw_batch(self.problem.images, self.problem.denoiser.schedule, self.batch_size, random["data"])

    def encode(self, rows: Sequence[TokenRow]) -> TextCut:
        embedding = self.problem.embedding
        return TextCut(self.problem.encoder.encode(rows, embedding.vectors), embedding.parameters)
