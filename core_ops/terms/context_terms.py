"""CoRe's two regularizers as terms of a step: what a prompt with the concept changed for the words around it.

`text` and `reference` are the encoded prompt and its version with the super-category, one row each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..conditioning import Denoiser, TextConditioning
from ..losses import context_attention_loss, context_embedding_loss
from ..losses.attention_statistics import token_means
from ..losses.context_embedding import Formulation
from ..prompts.token_rows import AlignedPair


def embedding_term(
    text: TextConditioning, reference: TextConditioning, pair: AlignedPair, formulation: Formulation
) -> Tensor:
    """Eq. 3; with two text encoders (SDXL) the mean of both."""
    context, reference_context = pair.positions(text.context.device)
    per_encoder = [
        context_embedding_loss(output[0, context], reference.outputs[name][0, reference_context], formulation)
        for name, output in text.outputs.items()
    ]
    return torch.stack(per_encoder).mean()


def attention_means(denoiser: Denoiser, z_t: Tensor, t: Tensor, text: TextConditioning) -> Tensor:
    """Mean attention of every token at z_t [B, C, h, w] and t [B], over heads and pixels: [L, B, N] for `L` layers."""
    return torch.stack(denoiser.with_attention(z_t, t, text, token_means)[1])


def attention_term(means: Tensor, reference_means: Tensor, pair: AlignedPair, formulation: Formulation) -> Tensor:
    """Eq. 4 of two prompts' `attention_means`, at the same z_t and t."""
    context, reference_context = pair.positions(means.device)
    return context_attention_loss(means[..., context], reference_means[..., reference_context], formulation)
