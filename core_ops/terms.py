"""Losses as terms of a step, between encoded prompts and noised batches; recipes share them.

CoRe's two regularizers (Wu et al. 2024) compare an encoded prompt with its version with the super-category, one row
each. AttnDreamBooth's objective (Pang et al. 2024), the same in its three stages, is the diffusion loss, and [V]
looking where the super-category after it looks; the attention maps are those of the diffusion loss's own forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .conditioning import TextConditioning
from .diffusion_process import Denoiser
from .losses.attention_alignment import attention_alignment_loss, span_moments
from .losses.context_losses import Formulation, context_attention_loss, context_embedding_loss
from .prompts.token_rows import AlignedPair, TokenRow, span_weights
from .training.objective import Objective, terms
from .training.training_data import NoisedBatch

EMBEDDING, ATTENTION = "context_embedding", "context_attention"
PUBLISHED_WEIGHTS = {EMBEDDING: 1.5e-4, ATTENTION: 0.05}
"""λ_emb and λ_attn of CoRe's Eq. 5."""


def embedding_term(
    text: TextConditioning, reference: TextConditioning, pair: AlignedPair, formulation: Formulation
) -> Tensor:
    """L_emb, Eq. 3; with two text encoders (SDXL) the mean of both."""
    context, reference_context = pair.positions(text.context.device)
    per_encoder = [
        context_embedding_loss(output[0, context], reference.outputs[name][0, reference_context], formulation)
        for name, output in text.outputs.items()
    ]
    return torch.stack(per_encoder).mean()


def attention_term(means: Tensor, reference_means: Tensor, pair: AlignedPair, formulation: Formulation) -> Tensor:
    """L_attn, Eq. 4, of the `token_means` of two prompts at the same z_t and t: [L, B, N] each, for `L` layers."""
    context, reference_context = pair.positions(means.device)
    return context_attention_loss(means[..., context], reference_means[..., reference_context], formulation)


@dataclass(frozen=True)
class Alignment:
    """Weights of the maps' mean and variance. category_tokens: how many tokens follow a concept as its category, by the
    index of the concept's first vector."""

    mean_weight: float
    variance_weight: float
    category_tokens: Mapping[int, int]


def aligned_diffusion(
    denoiser: Denoiser, batch: NoisedBatch, text: TextConditioning, alignment: Alignment
) -> Objective:
    """L_diffusion + L_reg in one forward pass; `text` holds one output row for each of the batch's captions."""

    def losses() -> tuple[Tensor, Tensor]:
        spans = concept_and_category_spans(batch.captions, alignment.category_tokens).to(text.context.device)
        predictions, moments = batch.with_attention(
            denoiser, text, statistic_of=lambda part: span_moments(spans[part.caption_of_sample])
        )
        aligned = attention_alignment_loss(moments, alignment.mean_weight, alignment.variance_weight)
        return batch.loss_of(predictions), aligned

    return terms({"diffusion": 1.0, "attention_alignment": 1.0}, losses)


def concept_and_category_spans(captions: Sequence[TokenRow], category_tokens: Mapping[int, int]) -> Tensor:
    """For `span_moments`: the concept's span and that of the super-category right after it, [captions, 2, N]."""
    length, concepts = len(captions[0].weights), [caption.span for caption in captions]
    following = [category_tokens[caption.first_vector] for caption in captions]
    categories = [range(span.stop, span.stop + count) for span, count in zip(concepts, following, strict=True)]
    return torch.stack([span_weights(spans, length) for spans in (concepts, categories)], dim=1)
