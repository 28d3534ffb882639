"""Textual Inversion (Gal et al. 2022): v minimises the diffusion loss alone. The baseline of the other recipes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from ..concept_embedding import ConceptEmbedding
from ..conditioning import Denoiser, TextConditioning, TextEncoder
from ..training_data import NoisedBatch, TrainingImages, draw_batch
from ..training_loop import RandomStreams
from ..training_step import Term, TextCut, TrainingStep


@dataclass(frozen=True)
class TextualInversionConfig:
    batch_size: int = 6


class TextualInversion:
    def __init__(
        self,
        config: TextualInversionConfig,
        encoder: TextEncoder,
        denoiser: Denoiser,
        images: TrainingImages,
        embedding: ConceptEmbedding,
    ) -> None:
        self.config, self.encoder, self.denoiser, self.images = config, encoder, denoiser, images
        self.embedding = embedding

    @property
    def parameters(self) -> list[Tensor]:
        return self.embedding.parameters

    def training_step(self, random: RandomStreams) -> TrainingStep:
        batch = draw_batch(self.images, self.denoiser.schedule, self.config.batch_size, random["data"])
        cut = TextCut(self.encoder.encode(batch.rows, self.embedding.vectors), self.parameters)
        return TrainingStep(self._terms(batch, cut.text), cut.leaves, cut.pull_back)

    def _terms(self, batch: NoisedBatch, text: TextConditioning) -> Iterator[Term]:
        yield Term("diffusion", batch.diffusion_loss(self.denoiser, text))

    def update(self, step: int) -> AbstractContextManager[None]:
        return nullcontext()

    def observations(self) -> dict[str, float]:
        return {"embedding_norm": self.embedding.mean_norm()}
