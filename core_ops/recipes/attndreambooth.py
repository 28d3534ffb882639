"""AttnDreamBooth stage 1 (Pang et al. 2024): v in "a photo of a [V] <super-category>", where [V] looks where the
super-category looks. The cross-attention maps are those of the diffusion loss's own forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention_statistics import span_moments
from ..conditioning import TextConditioning
from ..embedding_recipe import EmbeddingProblem, EmbeddingRecipe
from ..losses import attention_alignment_loss, diffusion_loss
from ..token_rows import TokenRow
from ..training_data import NoisedBatch
from ..training_step import Term


@dataclass(frozen=True)
class AttnDreamBoothConfig:
    """Defaults of stage 1. category_tokens: how many tokens the super-category after the concept has."""

    batch_size: int = 8
    mean_weight: float = 0.1
    variance_weight: float = 0.0
    category_tokens: int = 1


class AttnDreamBooth(EmbeddingRecipe):
    def __init__(self, config: AttnDreamBoothConfig, problem: EmbeddingProblem) -> None:
        super().__init__(problem, config.batch_size)
        self.config = config

    def terms(self, batch: NoisedBatch, text: TextConditioning) -> Iterator[Term]:
        spans = concept_and_category_spans(batch.rows, self.config.category_tokens).to(batch.z_t.device)
        prediction, moments = self.problem.denoiser.with_attention(
            batch.z_t, batch.t, batch.text_of_samples(text), span_moments(spans[batch.row_of_sample])
        )
        yield Term("diffusion", diffusion_loss(prediction, batch.target, batch.mask))
        alignment = attention_alignment_loss(torch.stack(moments), self.config.mean_weight, self.config.variance_weight)
        yield Term("attention_alignment", alignment)


def concept_and_category_spans(rows: Sequence[TokenRow], category_tokens: int) -> Tensor:
    """For `span_moments`: the concept's span and that of the super-category right after it, [rows, 2, N]."""
    spans = torch.zeros(len(rows), 2, len(rows[0].weights))
    for index, row in enumerate(rows):
        for part, positions in enumerate((row.span, range(row.span.stop, row.span.stop + category_tokens))):
            spans[index, part, list(positions)] = 1 / len(positions)
    return spans
