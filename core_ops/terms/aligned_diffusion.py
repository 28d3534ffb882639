"""AttnDreamBooth's objective (Pang et al. 2024), the same in its three stages: the diffusion loss, and [V] looking
where the super-category after it looks. The attention maps are those of the diffusion loss's own forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning import Denoiser, TextConditioning
from ..losses import attention_alignment_loss, diffusion_loss
from ..losses.attention_statistics import span_moments
from ..prompts.token_rows import TokenRow
from ..training.objective import Term, TermGroup
from ..training.training_data import NoisedBatch


@dataclass(frozen=True)
class Alignment:
    """Weights of the maps' mean and variance. category_tokens: how many tokens follow the concept as its category."""

    mean_weight: float
    variance_weight: float
    category_tokens: int

    @property
    def active(self) -> bool:
        return self.mean_weight > 0 or self.variance_weight > 0


def aligned_diffusion(
    denoiser: Denoiser, batch: NoisedBatch, text: TextConditioning, alignment: Alignment
) -> TermGroup:
    """Terms "diffusion" and "attention_alignment"; `text` holds one output row for each of the batch's rows."""
    spans = concept_and_category_spans(batch.rows, alignment.category_tokens).to(batch.z_t.device)
    prediction, moments = denoiser.with_attention(
        batch.z_t, batch.t, batch.text_of_samples(text), span_moments(spans[batch.row_of_sample])
    )
    loss = attention_alignment_loss(torch.stack(moments), alignment.mean_weight, alignment.variance_weight)
    return Term("diffusion", diffusion_loss(prediction, batch.target, batch.mask)), Term("attention_alignment", loss)


def concept_and_category_spans(rows: Sequence[TokenRow], category_tokens: int) -> Tensor:
    """For `span_moments`: the concept's span and that of the super-category right after it, [rows, 2, N]."""
    spans = torch.zeros(len(rows), 2, len(rows[0].weights))
    for index, row in enumerate(rows):
        for part, positions in enumerate((row.span, range(row.span.stop, row.span.stop + category_tokens))):
            spans[index, part, list(positions)] = 1 / len(positions)
    return spans
