"""Pictures of the concept as it is, in a few contexts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core_ops.conditioning import Denoiser, Embedding, TextEncoder
from ...core_ops.ddim import DDIMConfig, ddim_sample
from ...core_ops.token_rows import TokenRow
from ..host import latents
from ..host.module_copy import autograd_mode
from .inputs import HostModels

PREVIEW_TEMPLATES = ("a photo of a {}", "a {} in the snow", "a {} on the beach", "a painting of a {}")


class ConceptPreview:
    """rows: one prompt per picture; empty: that of no words."""

    def __init__(
        self, host: HostModels, encoder: TextEncoder, denoiser: Denoiser, rows: Sequence[TokenRow], empty: TokenRow
    ) -> None:
        self._host, self._encoder, self._denoiser = host, encoder, denoiser
        self._rows, self._empty = rows, empty

    def draw(self, vectors: Embedding, latent_shape: Sequence[int]) -> Tensor:
        """The pictures side by side, [H, n·W, 3], from latents [4, h, w]; changes no random state."""
        noise = torch.randn(len(self._rows), *latent_shape, generator=torch.Generator().manual_seed(0))
        with autograd_mode(), torch.no_grad():
            text = self._encoder.encode(self._rows, vectors)
            empty = self._encoder.encode([self._empty], {})
            z = ddim_sample(self._denoiser, text, empty, noise.to(self._host.model.load_device), DDIMConfig())
        return torch.cat(list(latents.decode(self._host.model, self._host.vae, z)), dim=1)
