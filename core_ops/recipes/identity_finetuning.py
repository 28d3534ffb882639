"""Identity in the U-Net's weights: CoRe stage 2 (Wu et al. 2024), AttnDreamBooth stages 2 and 3 (Pang et al. 2024),
DreamBooth (Ruiz et al. 2023) with its prior preservation, and Custom Diffusion (Kumari et al. 2023).

They differ in which weights are trained, in whether v is trained along, and in the terms beside the diffusion loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning import TextConditioning
from ..prompts.token_rows import TokenRow
from ..terms.aligned_diffusion import Alignment, aligned_diffusion
from ..training.embedding_problem import EmbeddingProblem
from ..training.objective import Term, TermGroup, TrainingStep
from ..training.training_data import NoisedBatch, TrainingImages, draw_batch
from ..training.training_loop import RandomStreams


@dataclass(frozen=True)
class IdentityFinetuningConfig:
    """Defaults of CoRe stage 2: the diffusion loss alone, v frozen.

    train_embedding: v is trained along with the weights.
    alignment: AttnDreamBooth's regularizer; its captions read "[V] <super-category>".
    """

    batch_size: int = 4
    train_embedding: bool = False
    alignment: Alignment | None = None


@dataclass(frozen=True)
class FinetuningProblem(EmbeddingProblem):
    """weights: the trained tensors of the denoiser. class_images: for prior preservation, captions without v."""

    weights: Sequence[Tensor] = ()
    class_images: TrainingImages | None = None


class IdentityFinetuning:
    """A `Recipe`. Text that does not change is encoded once."""

    def __init__(self, config: IdentityFinetuningConfig, problem: FinetuningProblem) -> None:
        self.config, self.problem = config, problem
        with torch.no_grad():
            self._text = None if config.train_embedding else self._encode(problem.images.rows)
            self._class_text = None if problem.class_images is None else self._encode(problem.class_images.rows)

    @property
    def parameters(self) -> list[Tensor]:
        trained_along = self.problem.embedding.parameters if self.config.train_embedding else []
        return [*self.problem.weights, *trained_along]

    def training_step(self, random: RandomStreams) -> TrainingStep:
        return TrainingStep(self._terms(random), self.parameters)

    def _terms(self, random: RandomStreams) -> Iterator[TermGroup]:
        batch = self._draw(self.problem.images, random["data"])
        text = self._encode(batch.rows) if self._text is None else self._text[batch.drawn_rows]
        yield self._instance_terms(batch, text)
        if self.problem.class_images is not None and self._class_text is not None:
            batch = self._draw(self.problem.class_images, random["prompts"])
            loss = batch.diffusion_loss(self.problem.denoiser, self._class_text[batch.drawn_rows])
            yield (Term("prior_preservation", loss),)

    def _instance_terms(self, batch: NoisedBatch, text: TextConditioning) -> TermGroup:
        if self.config.alignment is not None:
            return aligned_diffusion(self.problem.denoiser, batch, text, self.config.alignment)
        return (Term("diffusion", batch.diffusion_loss(self.problem.denoiser, text)),)

    def update(self, step: int) -> AbstractContextManager[None]:
        return nullcontext()

    def observations(self) -> dict[str, float]:
        return {"embedding_norm": self.problem.embedding.mean_norm()} if self.config.train_embedding else {}

    def _draw(self, images: TrainingImages, generator: torch.Generator) -> NoisedBatch:
        return draw_batch(images, self.problem.denoiser.schedule, self.config.batch_size, generator)

    def _encode(self, rows: Sequence[TokenRow]) -> TextConditioning:
        return self.problem.encoder.encode(rows, self.problem.embedding.vectors)
