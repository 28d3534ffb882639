"""Identity in the U-Net's weights: CoRe stage 2 (Wu et al. 2024), AttnDreamBooth stages 2 and 3 (Pang et al. 2024),
DreamBooth (Ruiz et al. 2023) with its prior preservation, Custom Diffusion (Kumari et al. 2023), and ClassDiffusion
(Huang et al. 2024), which is Custom Diffusion and a term.

They differ in which weights are trained, in whether v and the text encoder are trained along, and in the terms beside
the diffusion loss.

Example::

    problem = FinetuningProblem(encoder, denoiser, latents, ConceptEmbedding(initial), weights)
    recipe = IdentityFinetuning(IdentityFinetuningConfig(), problem)
    loop = TrainingLoop(recipe, LoopConfig(steps=1000, learning_rate=2e-6))
    for report in loop:
        print(report.step, report.terms["diffusion"])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning import TextConditioning
from ..losses.semantic_preservation import semantic_preservation_loss
from ..prompts.token_rows import TokenRow
from ..terms import Alignment, aligned_diffusion
from ..training.embedding_problem import EmbeddingProblem
from ..training.objective import FixedWeights, Objective, TrainingStep, term
from ..training.training_data import NoisedBatch, TrainingLatents, draw_batch
from ..training.training_loop import RandomStreams

PRIOR, SEMANTIC = "prior_preservation", "semantic_preservation"


@dataclass(frozen=True)
class IdentityFinetuningConfig:
    """Defaults of CoRe stage 2: the diffusion loss alone, v frozen.

    train_embedding: v is trained along with the weights. prior_weight: λ of prior preservation, where there are class
    images. alignment: AttnDreamBooth's regularizer; its captions read "[V] <super-category>". semantic_weight: λ of
    ClassDiffusion's semantic preservation, where there are prompts for it.
    """

    batch_size: int = 4
    train_embedding: bool = False
    prior_weight: float = 1.0
    alignment: Alignment | None = None
    semantic_weight: float = 1.0


@dataclass(frozen=True)
class FinetuningProblem(EmbeddingProblem):
    """weights: the trained tensors of the denoiser. text_weights: of the encoder, where it is trained along.
    class_latents: for prior preservation, captions without v. draw_dropout: what adapters leave out in the next step.
    class_prompts: for semantic preservation, per concept one with v before the super-category and one without v, which
    counts as it was encoded before the first step.
    """

    weights: Sequence[Tensor] = ()
    text_weights: Sequence[Tensor] = ()
    class_latents: TrainingLatents | None = None
    draw_dropout: Callable[[torch.Generator], object] = lambda _: None
    class_prompts: Sequence[tuple[TokenRow, TokenRow]] = ()


class IdentityFinetuning:
    """A `Recipe`. Text that does not change is encoded once."""

    def __init__(self, config: IdentityFinetuningConfig, problem: FinetuningProblem) -> None:
        self.config, self.problem = config, problem
        semantic = {SEMANTIC: config.semantic_weight} if problem.class_prompts else {}
        self.weights = FixedWeights({PRIOR: config.prior_weight, **semantic})
        class_latents = None if problem.text_weights else problem.class_latents
        with torch.no_grad():
            anew = config.train_embedding or problem.text_weights
            self._text = None if anew else self._encode(problem.latents.captions)
            self._class_text = class_latents and self._encode(class_latents.captions)
            self._class_ends = [self._ends(kind) for _, kind in problem.class_prompts]

    @property
    def parameters(self) -> list[Tensor]:
        trained_along = self.problem.embedding.parameters if self.config.train_embedding else []
        return [*self.problem.weights, *self.problem.text_weights, *trained_along]

    def training_step(self, random: RandomStreams) -> TrainingStep:
        self.problem.draw_dropout(random["prompts"])
        objective = self._identity(random)
        if self.problem.class_latents is not None:
            objective += self.weights[PRIOR] * term(PRIOR, lambda: self._prior_loss(random["prompts"]))
        if self.problem.class_prompts:
            objective += self.weights[SEMANTIC] * term(SEMANTIC, self._semantic_loss)
        return TrainingStep(objective, self.parameters)

    def _identity(self, random: RandomStreams) -> Objective:
        denoiser, batch = self.problem.denoiser, self.problem.draw(self.config.batch_size, random)
        text = self.text_of(batch)
        if self.config.alignment is not None:
            return aligned_diffusion(denoiser, batch, text, self.config.alignment)
        return term("diffusion", lambda: batch.diffusion_loss(denoiser, text))

    def text_of(self, batch: NoisedBatch) -> TextConditioning:
        """The batch's captions with the concept as it is, one output row each."""
        return self._encode(batch.captions) if self._text is None else self._text[batch.drawn_captions]

    def diffusion_loss(self, batch: NoisedBatch) -> Tensor:
        """Eq. 1 on a batch with the concept and the weights as they are."""
        return batch.diffusion_loss(self.problem.denoiser, self.text_of(batch))

    def _prior_loss(self, generator: torch.Generator) -> Tensor:
        """DreamBooth's prior preservation: the diffusion loss on pictures of the super-category."""
        assert self.problem.class_latents is not None
        denoiser, min_snr = self.problem.denoiser, self.problem.min_snr
        batch = draw_batch(self.problem.class_latents, denoiser.schedule, self.config.batch_size, generator, min_snr)
        text = self._encode(batch.captions) if self._class_text is None else self._class_text[batch.drawn_captions]
        return batch.diffusion_loss(denoiser, text)

    def _semantic_loss(self) -> Tensor:
        """The mean over the concepts, and over two text encoders (SDXL)."""
        losses = [
            semantic_preservation_loss(end, kind_ends[name])
            for (prompt, _), kind_ends in zip(self.problem.class_prompts, self._class_ends, strict=True)
            for name, end in self._ends(prompt).items()
        ]
        return torch.stack(losses).mean()

    def _ends(self, prompt: TokenRow) -> dict[str, Tensor]:
        """A prompt's output at end of text, [1, D] by encoder."""
        return {name: output[:, prompt.end] for name, output in self._encode([prompt]).outputs.items()}

    def update(self, step: int) -> AbstractContextManager[None]:
        return nullcontext()

    def observations(self) -> dict[str, float]:
        return {"embedding_norm": self.problem.embedding.mean_norm()} if self.config.train_embedding else {}

    def _encode(self, captions: Sequence[TokenRow]) -> TextConditioning:
        return self.problem.encoder.encode(captions, self.problem.embedding.vectors)
