"""Pictures of the concept as it is, in a few contexts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core_ops.conditioning import Embedding, TextConditioning
from ...core_ops.diffusion_process import DDIMConfig, ddim_sample
from ..concept import Concept
from ..host.models import latents
from ..host.models.host_models import HostModels, TrainingModels
from ..host.models.module_copy import autograd_mode
from ..host.prompts.prompt_rows import PromptRows

PREVIEW_TEMPLATES = ("a photo of a {}", "a {} in the snow", "a {} on the beach", "a painting of a {}")


class ConceptPreview:
    """One picture for each of the templates, as the concept's method writes them."""

    def __init__(self, host: HostModels, models: TrainingModels, concept: Concept, rows: PromptRows) -> None:
        self._host, self._models = host, models
        self._prompts = [rows.concept(concept.caption(template)) for template in PREVIEW_TEMPLATES]
        self._no_words = rows.text("")
        self._kept: tuple[TextConditioning, TextConditioning] | None = None

    def keep_prompts(self, vectors: Embedding) -> None:
        """Encodes the prompts once and for all with these vectors: it needs the encoder no more."""
        self._kept = self._encoded(vectors)

    def draw(self, vectors: Embedding, latent_shape: Sequence[int]) -> Tensor:
        """The pictures side by side, [H, n·W, 3], from latents [4, h, w]; changes no random state."""
        noise = torch.randn(len(self._prompts), *latent_shape, generator=torch.Generator().manual_seed(0))
        with autograd_mode(), torch.no_grad():
            text, no_words = self._kept or self._encoded(vectors)
            noise = noise.to(self._host.device)
            # One after another: together they would take more memory than the training.
            pictures = [
                ddim_sample(
                    self._models.denoiser, text[place], unconditional=no_words, noise=noise[place], config=DDIMConfig()
                )
                for place in (slice(index, index + 1) for index in range(len(self._prompts)))
            ]
        return torch.cat(list(latents.decode(self._host.model, self._host.vae, torch.cat(pictures))), dim=1)

    @torch.no_grad()
    def _encoded(self, vectors: Embedding) -> tuple[TextConditioning, TextConditioning]:
        """All prompts, and that of no words."""
        encoder = self._models.encoder
        return encoder.encode(self._prompts, vectors), encoder.encode([self._no_words], {})
