"""The run behind "CoRe Test-Time Optimize": from a checked prompt to refined vectors, and what is told about them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...core_ops.concept.concept_embedding import ConceptEmbedding
from ...core_ops.conditioning import Embedding
from ...core_ops.prompts.prompt_templates import fill
from ...core_ops.recipes.prompt_refinement import (
    ATTENTION,
    EMBEDDING,
    LowestOfAll,
    Measurement,
    NoisedLatents,
    PromptRefinement,
    RefinementConfig,
    RefinementProblem,
    noised_latents,
)
from ...core_ops.training.term_weighting import BalancedWeights, FixedWeights
from ...core_ops.training.training_loop import LoopConfig, TrainingLoop
from ..embedding.embedding_settings import BALANCED
from ..host.models.denoiser import HostDenoiser, UNetPlan
from ..host.models.module_copy import autograd_mode
from ..host.models.precision import computed_dtype, dtype_for
from ..host.models.text_encoder import HostTextEncoder
from ..host.prompts.prompt_rows import TemplateRows
from ..host.run_control import RunProgress, check_cancelled
from ..training.training_inputs import HostModels
from .refinement_inputs import CheckedPrompt


@dataclass(frozen=True)
class RefinedPrompt:
    """vectors: of the refined concepts, on the CPU. before, after: on the same noise. seconds: of the steps."""

    vectors: Embedding
    start: Embedding
    before: Measurement
    after: Measurement
    seconds: float


def refine_prompt(host: HostModels, checked: CheckedPrompt, node_id: str | None) -> RefinedPrompt:
    """The whole run; the copies of the host's models end with this function."""
    with autograd_mode():
        return _Refinement(host, checked).run(node_id)


def encode_prompt(host: HostModels, checked: CheckedPrompt, vectors: Embedding) -> Any:
    """CONDITIONING as the host's CLIP Text Encode makes it, with these vectors in the refined concepts' places."""
    rows = TemplateRows(host.clip, checked.concepts.named(vectors))
    prompt = fill(checked.settings.prompt, checked.concepts.fillings)
    return host.clip.encode_from_tokens_scheduled(rows.host_tokens(prompt))


class _Refinement:
    """The host's models copied, the noise drawn, ready to `run`."""

    def __init__(self, host: HostModels, checked: CheckedPrompt) -> None:
        self.settings = settings = checked.settings
        device = host.model.load_device
        self._dtype = dtype_for(settings.precision, device, computed_dtype(host.model))
        encoder = HostTextEncoder(host.clip, device)
        denoiser = HostDenoiser(host.model, UNetPlan(self._dtype, *checked.size))
        if settings.gradient_checkpointing:
            denoiser.checkpoint_blocks()
        self.embedding = ConceptEmbedding({name: v.to(device) for name, v in checked.concepts.vectors().items()})
        noised = self._noised(checked.latents, denoiser)
        self.recipe = PromptRefinement(
            RefinementConfig(settings.terms_formulation, settings.trust_limit),
            RefinementProblem(encoder, denoiser, checked.pair, noised, self.embedding),
        )

    def run(self, node_id: str | None) -> RefinedPrompt:
        before = self.recipe.measure()
        check_cancelled()
        if self.settings.steps == 0:
            return RefinedPrompt(self.recipe.start, self.recipe.start, before, before, 0.0)
        began = time.monotonic()
        progress = RunProgress(self.settings.steps, node_id)
        lowest, vectors = LowestOfAll(self.settings.counted), self.recipe.start
        for report in self._loop():
            lowest.offer(report.terms, vectors)  # terms are those of the vectors that the step began with
            vectors = self.embedding.snapshot()
            progress.update(report.step, _describe(report.terms))
        after = self.recipe.measure()
        lowest.offer(after.terms, vectors)
        if lowest.vectors is not vectors:
            self._set(lowest.vectors)
            after = self.recipe.measure()
        return RefinedPrompt(lowest.vectors, self.recipe.start, before, after, time.monotonic() - began)

    def _loop(self) -> TrainingLoop:
        settings = self.settings
        fp16 = self._dtype == torch.float16
        if settings.weighting != BALANCED:
            config = LoopConfig(settings.steps, settings.learning_rate, measure_every=0, fp16_scaling=fp16)
            return TrainingLoop(self.recipe, config, FixedWeights(settings.weights))
        weighting = BalancedWeights({ATTENTION: settings.attention_share}, settings.weights)
        # A step at rate 0 moves nothing, but measures the gradients: the first real step is balanced already.
        next(iter(TrainingLoop(self.recipe, LoopConfig(1, 0.0, measure_every=1, fp16_scaling=fp16), weighting)))
        config = LoopConfig(settings.steps, settings.learning_rate, measure_every=1, fp16_scaling=fp16)
        return TrainingLoop(self.recipe, config, weighting)

    def _noised(self, latents: Tensor, denoiser: HostDenoiser) -> NoisedLatents:
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed)
        return noised_latents(latents, denoiser.schedule, settings.timesteps, settings.batch_size, generator)

    @torch.no_grad()
    def _set(self, vectors: Embedding) -> None:
        for name, value in self.embedding.vectors.items():
            value.copy_(vectors[name])


def _describe(terms: Mapping[str, float]) -> str:
    return f"L_emb {terms[EMBEDDING]:.4g}, L_attn {terms[ATTENTION]:.4g}"
