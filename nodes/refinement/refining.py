"""The work behind "CoRe Test-Time Optimize": from a checked prompt to refined vectors."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ...core_ops.conditioning import Embedding
from ...core_ops.embedding_adjustment import adjusted_towards
from ...core_ops.prompts.prompt_templates import fill
from ...core_ops.recipes.prompt_refinement import (
    ATTENTION,
    EMBEDDING,
    BestVectors,
    Measurement,
    PromptRefinement,
    RefinementConfig,
    RefinementProblem,
    noised_latents,
)
from ...core_ops.training.embedding_problem import ConceptEmbedding, spread_over_vectors
from ...core_ops.training.objective import BALANCED
from ...core_ops.training.training_loop import LoopConfig, TrainingLoop
from ..concept import Concept
from ..files import concept_files
from ..host.models.denoiser import UNetPlan
from ..host.models.device_memory import free_for_copies
from ..host.models.host_models import HostModels
from ..host.models.module_copy import autograd_mode
from ..host.models.text_encoder import word_vectors
from ..host.prompts.prompt_rows import TemplateRows
from ..host.run_control import RunProgress, check_cancelled
from .refinement_inputs import CheckedPrompt
from .refinement_settings import TEA, RefinementSettings


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
    settings = checked.settings
    plan = settings.unet_plan(host.model)
    with autograd_mode():
        recipe = assembled(host, checked, plan)
        before, learned = recipe.measure(), recipe.start
        check_cancelled()
        if settings.adjustment == TEA:
            recipe.begin_at(turned_towards_its_kind(host, checked))
        if settings.steps == 0:
            return RefinedPrompt(recipe.start, learned, before=before, after=recipe.measure(), seconds=0.0)
        began, progress = time.monotonic(), RunProgress(settings.steps, node_id)
        best, vectors = BestVectors(settings.counted), recipe.start
        for report in training_loop(recipe, settings, fp16=plan.dtype == torch.float16):
            best.update(report.terms, vectors)  # terms are those of the vectors that the step began with
            vectors = recipe.problem.embedding.snapshot()
            terms = report.terms
            progress.update(report.step, f"L_emb {terms[EMBEDDING]:.4g}, L_attn {terms[ATTENTION]:.4g}")
        after = recipe.measure()
        best.update(recipe.measure(shared_queries=True).terms if settings.shared_queries else after.terms, vectors)
        if best.vectors is not vectors:
            recipe.problem.embedding.set(best.vectors)
            after = recipe.measure()
        return RefinedPrompt(best.vectors, learned, before=before, after=after, seconds=time.monotonic() - began)


def assembled(host: HostModels, checked: CheckedPrompt, plan: UNetPlan) -> PromptRefinement:
    """The host's models copied, the noise drawn."""
    settings = checked.settings
    free_for_copies(host.model, host.device)
    models = host.copied(plan)
    noised = noised_latents(
        checked.latents,
        models.denoiser.schedule,
        timesteps=settings.timesteps,
        batch_size=settings.batch_size,
        generator=torch.Generator().manual_seed(settings.seed),
    )
    embedding = ConceptEmbedding({name: v.to(host.device) for name, v in checked.concepts.vectors().items()})
    config = RefinementConfig(
        settings.terms_formulation, settings.trust_limit, settings.shared_queries, settings.weights
    )
    problem = RefinementProblem(models.encoder, models.denoiser, pair=checked.pair, noised=noised, embedding=embedding)
    return PromptRefinement(config, problem)


def turned_towards_its_kind(host: HostModels, checked: CheckedPrompt) -> Embedding:
    """TEA of every refined concept."""
    settings, concepts = checked.settings, checked.concepts
    adjusted: dict[str, list[Tensor]] = {}
    for concept, refined, ids in zip(concepts.concepts, concepts.refined, checked.categories, strict=True):
        for name, words in word_vectors(host.clip, ids).items() if refined else ():
            kind = spread_over_vectors(words, concept.length)
            turned = adjusted_towards(concept.vectors[name], kind, settings.tea_rotation, settings.tea_norm)
            adjusted.setdefault(name, []).append(turned)
    return {name: torch.cat(parts) for name, parts in adjusted.items()}


def training_loop(recipe: PromptRefinement, settings: RefinementSettings, fp16: bool) -> TrainingLoop:
    balanced = settings.weighting == BALANCED
    if balanced:
        # A step at rate 0 moves nothing, but measures the gradients: the first real step is balanced already.
        next(iter(TrainingLoop(recipe, LoopConfig(1, 0.0, measure_every=1, fp16_scaling=fp16))))
    measure_every = 1 if balanced else 0
    config = LoopConfig(settings.steps, settings.learning_rate, measure_every=measure_every, fp16_scaling=fp16)
    return TrainingLoop(recipe, config)


def encode_prompt(host: HostModels, checked: CheckedPrompt, vectors: Embedding) -> Any:
    """CONDITIONING as the host's CLIP Text Encode makes it, with these vectors in the refined concepts' places."""
    rows = TemplateRows(host.clip, checked.concepts.named(vectors))
    prompt = fill(checked.settings.prompt, checked.concepts.fillings)
    return host.clip.encode_from_tokens_scheduled(rows.host_tokens(prompt))


def save_refined(host: HostModels, checked: CheckedPrompt, refined: RefinedPrompt) -> Concept:
    """Writes the first concept, as refined, as an embedding under the name in save_as."""
    settings, original = checked.settings, checked.concepts.concepts[0]
    place = checked.concepts.place(0)
    vectors = {encoder: value[place] for encoder, value in refined.vectors.items()}
    path = concept_files.embedding_path(settings.save_as)
    concept = original.learned_further(settings.save_as, vectors, path)
    training = {
        "resolution": min(checked.size),
        "phrase": concept.phrase,
        "super_category": concept.super_category,
        "with_category": concept.with_category,
        "steps_done": settings.steps,
        "settings": asdict(settings),
        "final_terms": dict(refined.after.terms),
        "refined_from": original.name,
    }
    concept_files.save_embedding(concept.name, vectors, card=host.card(training), overwrite=settings.overwrite)
    return concept
