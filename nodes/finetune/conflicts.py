"""Settings of "U-Net Identity Finetune" that cannot go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..training.optimizers import PRODIGY

if TYPE_CHECKING:
    from .finetune_settings import FinetuneSettings


def refuse_together(settings: FinetuneSettings) -> None:
    """Raises ValueError, with the remedy."""
    if settings.fused_backward and (settings.gradient_accumulation > 1 or settings.max_gradient_norm > 0):
        raise ValueError(
            "fused_backward: it never has the whole gradient that gradient_accumulation above 1 and "
            "max_gradient_norm above 0 need; set them to 1 and 0, or switch fused_backward off."
        )
    if settings.fused_backward and settings.optimizer == PRODIGY:
        raise ValueError(
            "fused_backward: Prodigy finds its rate from all gradients together; choose another optimizer, or "
            "switch fused_backward off."
        )
    if settings.caption_dropout and settings.aligned:
        raise ValueError(
            "caption_dropout: AttnDreamBooth's alignment looks for the concept in every caption; set "
            "caption_dropout, or alignment_mean and alignment_variance, to 0."
        )
    if settings.fused_backward and settings.precision == "fp16":
        raise ValueError(
            "fused_backward: fp16 scales the loss and looks at the whole gradient first; choose precision bf16 or "
            "fp32, or switch fused_backward off."
        )
    if settings.fused_backward and settings.preserves_semantics:
        raise ValueError(
            "fused_backward: semantic_weight makes a second backward pass in every step, which it cannot wait for; "
            "set semantic_weight to 0, or switch fused_backward off."
        )
    trained_along = {
        "embedding_rate": settings.train_embedding and settings.embedding_rate,
        "text_encoder_rate": settings.train_text_encoder and settings.text_encoder_rate,
    }
    for name, rate in trained_along.items():
        if rate and settings.optimizer == PRODIGY:
            raise ValueError(f"{name}: Prodigy finds one rate for all that is trained; set it to 0: the same rate.")
    if "{}" in settings.class_caption:
        raise ValueError("class_caption: it holds {}, but class images show no concept; write plain words.")
