"""AttnDreamBooth stage 1 (Pang et al. 2024): v in "a photo of a [V] <super-category>", where [V] looks where the
super-category looks. The cross-attention maps are those of the diffusion loss's own forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention_statistics import span_moments
from ..concept_embedding import ConceptEmbedding
from ..conditioning import Denoiser, TextConditioning, TextEncoder
from ..losses import attention_alignment_loss, diffusion_loss
from ..token_rows import TokenRow
from ..training_data import NoisedBatch, TrainingImages, draw_batch
from ..training_loop import RandomStreams
from ..training_step import Term, TextCut, TrainingStep


@dataclass(frozen=True)
class AttnDreamBoothConfig:
    """Defaults of stage 1. category_tokens: how many tokens the super-category after the concept has."""

    batch_size: int = 8
    mean_weight: float = 0.1
    variance_weight: float = 0.0
    category_tokens: int = 1


class AttnDreamBooth:
    def __init__(
        self,
        config: AttnDreamBoothConfig,
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
        spans = concept_and_category_spans(batch.rows, self.config.category_tokens).to(batch.z_t.device)
        prediction, moments = self.denoiser.with_attention(
            batch.z_t, batch.t, batch.text_of_samples(text), span_moments(spans[batch.row_of_sample])
        )
        alignment = attention_alignment_loss(torch.stack(moments), self.config.mean_weight, self.config.variance_weight)
        yield Term("diffusion", diffusion_loss(prediction, batch.target, batch.mask))
        yield Term("attention_alignment", alignment)

    def update(self, step: int) -> AbstractContextManager[None]:
        return nullcontext()

    def observations(self) -> dict[str, float]:
        return {"embedding_norm": self.embedding.mean_norm()}


def concept_and_category_spans(rows: Sequence[TokenRow], category_tokens: int) -> Tensor:
    """For `span_moments`: the concept's span and that of the super-category right after it, [rows, 2, N]."""
    spans = torch.zeros(len(rows), 2, len(rows[0].weights))
    for index, row in enumerate(rows):
        for part, positions in enumerate((row.span, range(row.span.stop, row.span.stop + category_tokens))):
            spans[index, part, list(positions)] = 1 / len(positions)
    return spans
