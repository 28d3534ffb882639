"""Pictures of the concept as it is, in a few contexts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core_ops.conditioning import Denoiser, Embedding, TextConditioning, TextEncoder
from ...core_ops.ddim import DDIMConfig, ddim_sample
from ...core_ops.prompts.token_rows import TokenRow
from ..host.models import latents
from ..host.models.module_copy import autograd_mode
from .training_inputs import HostModels

PREVIEW_TEMPLATES = ("a photo of a {}", "a {} in the snow", "a {} on the beach", "a painting of a {}")


class ConceptPreview:
    """rows: one prompt per picture; empty: that of no words."""

    def __init__(self, host: HostModels, encoder: TextEncoder, rows: Sequence[TokenRow], empty: TokenRow) -> None:
        self._host, self._encoder = host, encoder
        self._rows, self._empty = rows, empty
        self._kept: tuple[TextConditioning, TextConditioning] | None = None

    def encoded(self, vectors: Embedding) -> ConceptPreview:
        """Itself, its prompts encoded once and for all with these vectors: it needs the encoder no more."""
        self._kept = self._encode(vectors)
        return self

    def draw(self, denoiser: Denoiser, vectors: Embedding, latent_shape: Sequence[int]) -> Tensor:
        """The pictures side by side, [H, n·W, 3], from latents [4, h, w]; changes no random state."""
        noise = torch.randn(len(self._rows), *latent_shape, generator=torch.Generator().manual_seed(0))
        with autograd_mode(), torch.no_grad():
            text, empty = self._kept or self._encode(vectors)
            noise = noise.to(self._host.model.load_device)
            # One after another: together they would take more memory than the training.
            pictures = [
                ddim_sample(denoiser, text[place], empty, noise[place], DDIMConfig())
                for place in (slice(index, index + 1) for index in range(len(self._rows)))
            ]
        return torch.cat(list(latents.decode(self._host.model, self._host.vae, torch.cat(pictures))), dim=1)

    @torch.no_grad()
    def _encode(self, vectors: Embedding) -> tuple[TextConditioning, TextConditioning]:
        """Of all prompts, and of no words."""
        return self._encoder.encode(self._rows, vectors), self._encoder.encode([self._empty], {})
