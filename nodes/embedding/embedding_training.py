"""The run behind "CoRe Train Embedding": from checked inputs to a written embedding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core_ops.concept.concept_embedding import ConceptEmbedding, spread_over_vectors
from ...core_ops.conditioning import Embedding
from ...core_ops.recipes.attndreambooth import AttnDreamBooth, AttnDreamBoothConfig
from ...core_ops.recipes.context_regularization import ContextRegularization, ContextRegularizationConfig
from ...core_ops.recipes.textual_inversion import TextualInversion
from ...core_ops.terms.aligned_diffusion import Alignment
from ...core_ops.training.embedding_problem import EmbeddingProblem
from ...core_ops.training.memory_estimate import META, MemoryPlan
from ...core_ops.training.term_weighting import BalancedWeights, FixedWeights
from ...core_ops.training.training_loop import LoopConfig, Recipe, TrainingLoop
from ..files import concept_files
from ..host.models.denoiser import HostDenoiser, UNetPlan
from ..host.models.module_copy import autograd_mode
from ..host.models.precision import computed_dtype, dtype_for
from ..host.models.text_encoder import HostTextEncoder
from ..training.concept_preview import PREVIEW_TEMPLATES, ConceptPreview
from ..training.memory_plan import Rehearsed, memory_plan, rehearsed_images, what_would_help, without_state
from ..training.optimizers import STATE_BYTES
from ..training.session import RunPlan, TrainingRun
from ..training.training_card import training_card
from ..training.training_images import encode_images
from ..training.training_inputs import HostModels
from .embedding_inputs import CheckedInputs
from .embedding_settings import ATTNDREAMBOOTH, BALANCED, CORE_REFERENCE, TEXTUAL_INVERSION, EmbeddingSettings

CHECKPOINTING: dict[str, Any] = {"gradient_checkpointing": True, "checkpointing_levels": 0}
LESS_MEMORY: tuple[dict[str, Any], ...] = (
    CHECKPOINTING,
    {"batch_size": 1},
    {"regularization_batch": 1},
    {"offload": 1.0},
    {"precision": "auto"},
    {"batch_size": 1, **CHECKPOINTING},
    {"batch_size": 1, **CHECKPOINTING, "offload": 1.0},
)
"""What is tried where a training does not fit."""


@dataclass(frozen=True)
class TrainedEmbedding:
    """What a run leaves: vectors on the CPU, the file, the curves and a preview [1, H, W, 3]."""

    vectors: Embedding
    path: Path
    losses: dict[str, list[float]]
    preview: Tensor
    summary: str


def train_embedding(host: HostModels, checked: CheckedInputs, node_id: str | None) -> TrainedEmbedding:
    """The whole run; the copies of the host's models end with this function."""
    run = EmbeddingRun(host, checked, node_id)
    with run.nothing_lost():
        run.train()
        path = run.save_embedding(checked.settings.concept_name, checked.settings.overwrite)
        preview = run.last_preview()
    summary = run.summary(path, run.phrase(checked.settings.concept_name))
    return TrainedEmbedding(run.embedding.snapshot(), path, run.losses, preview, summary)


class EmbeddingRun(TrainingRun):
    """One training of an embedding: the host's models copied, the pictures encoded, ready to `train`."""

    def __init__(self, host: HostModels, checked: CheckedInputs, node_id: str | None = None) -> None:
        self.host, self.checked = host, checked
        settings = checked.settings
        name = settings.concept_name
        plan = RunPlan(name, name, settings.steps, settings.preview_every, settings.save_every, checked.fingerprint)
        super().__init__(plan, node_id)
        with autograd_mode():
            memory = self._memory_plan(settings)
            self.make_room(memory, lambda room: what_would_help(settings, LESS_MEMORY, self._memory_plan, room))
        images = encode_images(host, checked.captioned, settings.augmentation, settings.seed)
        self._latent_shape = images.latents.shape[1:]
        self.measure_peak(memory)
        with autograd_mode():
            self.encoder = HostTextEncoder(host.clip, self.device)
            self.denoiser = self._denoiser(settings)
            self.embedding = ConceptEmbedding(self._initial_vectors(self.encoder))
            recipe = self._recipe(settings, EmbeddingProblem(self.encoder, self.denoiser, images, self.embedding))
            self.loop = TrainingLoop(recipe, self._loop_config(self.denoiser.dtype), self._weighting())
            self.resume(checked.resumed)

    @classmethod
    def planned(cls, host: HostModels, checked: CheckedInputs, settings: EmbeddingSettings) -> MemoryPlan:
        """What a training would take, without beginning one."""
        run = cls.__new__(cls)
        run.host, run.checked = host, checked
        with autograd_mode():
            return run._memory_plan(settings)

    @property
    def device(self) -> torch.device:
        return self.host.model.load_device

    def preview(self) -> Tensor:
        rows, caption = self.checked.rows, self.checked.settings.caption
        prompts = [rows.concept(caption(template)) for template in PREVIEW_TEMPLATES]
        preview = ConceptPreview(self.host, self.encoder, prompts, rows.text(""))
        return preview.draw(self.denoiser, self.embedding.vectors, self._latent_shape)

    def keep_step(self) -> str:
        name = f"{self.checked.settings.concept_name}-step{self.loop.step}"
        self.save_embedding(name, overwrite=True)
        return f"embedding:{name}"

    def save_embedding(self, name: str, overwrite: bool) -> Path:
        return concept_files.save_embedding(name, self.embedding.snapshot(), self._card(name), overwrite)

    def phrase(self, name: str) -> str:
        """What stands for the concept in prompts when its file has this name."""
        return self.checked.settings.caption("{}").replace("{}", f"embedding:{name}")

    def _card(self, name: str) -> dict[str, Any]:
        """What the file of this name says about itself."""
        settings = self.checked.settings
        training = {
            "resolution": settings.resolution,
            "phrase": self.phrase(name),
            "steps_done": self.loop.step,
            "settings": asdict(settings),
            "final_terms": {name: values[-1] for name, values in self.losses.items() if values},
            "gradient_shares": self.shares,
            "memory": self.memory,
        }
        return training_card(self.host, training)

    def _denoiser(self, settings: EmbeddingSettings, device: torch.device | None = None) -> HostDenoiser:
        dtype = dtype_for(settings.precision, self.device, computed_dtype(self.host.model))
        plan = UNetPlan(dtype, settings.resolution, settings.resolution, offload=settings.offload, device=device)
        denoiser = HostDenoiser(self.host.model, plan)
        if settings.gradient_checkpointing:
            denoiser.checkpoint_blocks(settings.checkpointing_levels)
        return denoiser

    def _initial_vectors(self, encoder: HostTextEncoder) -> dict[str, Tensor]:
        settings = self.checked.settings
        words = self.checked.rows.words(settings.initial_words or settings.super_category)
        embeddings = encoder.word_embeddings(dict(zip(encoder.names, words, strict=True)))
        return {name: spread_over_vectors(value, settings.vectors) for name, value in embeddings.items()}

    def _recipe(self, settings: EmbeddingSettings, problem: EmbeddingProblem) -> Recipe:
        batch_size = settings.batch_size
        if settings.method == TEXTUAL_INVERSION:
            return TextualInversion(problem, batch_size)
        if settings.method == ATTNDREAMBOOTH:
            category_tokens = len(self.checked.rows.words(settings.super_category)[0])
            alignment = Alignment(settings.alignment_mean, settings.alignment_variance, category_tokens)
            return AttnDreamBooth(AttnDreamBoothConfig(batch_size, alignment), problem)
        formulation = "reference_code" if settings.method == CORE_REFERENCE else "paper"
        config = ContextRegularizationConfig(
            batch_size,
            formulation,
            settings.rescale_from,
            settings.rescale_to,
            settings.regularization_batch,
        )
        return ContextRegularization(config, problem, self.checked.prompts)

    def _memory_plan(self, settings: EmbeddingSettings) -> MemoryPlan:
        """What the training would take with these settings: the same parts, made of shapes alone."""
        encoder = HostTextEncoder(self.host.clip, META, self.device)
        denoiser = self._denoiser(settings, META)
        images = rehearsed_images(self.checked.captioned, settings.augmentation, denoiser.unet.in_channels)
        embedding = ConceptEmbedding(self._initial_vectors(encoder))
        recipe = self._recipe(settings, EmbeddingProblem(encoder, denoiser, images, embedding))
        loop = TrainingLoop(recipe, self._loop_config(torch.float32), self._weighting(), without_state)
        return memory_plan(Rehearsed(encoder, denoiser, images, loop), self.device, STATE_BYTES["AdamW"])

    def _weighting(self) -> FixedWeights:
        settings = self.checked.settings
        weights = {
            "context_embedding": settings.embedding_weight,
            "context_attention": settings.attention_weight,
        }
        if settings.weighting == BALANCED:
            shares = {
                "context_embedding": settings.embedding_share,
                "context_attention": settings.attention_share,
            }
            return BalancedWeights(shares, weights, from_minimum=True)
        return FixedWeights(weights)

    def _loop_config(self, dtype: torch.dtype) -> LoopConfig:
        settings = self.checked.settings
        return LoopConfig(
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            gradient_accumulation=settings.gradient_accumulation,
            max_gradient_norm=settings.max_gradient_norm,
            seed=settings.seed,
            fp16_scaling=dtype == torch.float16,
        )
