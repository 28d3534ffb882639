"""The run behind "CoRe Train Embedding": from checked inputs to a written embedding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core_ops.aligned_diffusion import Alignment
from ...core_ops.concept_embedding import ConceptEmbedding, spread_over_vectors
from ...core_ops.conditioning import Embedding
from ...core_ops.embedding_recipe import EmbeddingProblem
from ...core_ops.memory_estimate import MemoryPlan
from ...core_ops.recipes.attndreambooth import AttnDreamBooth, AttnDreamBoothConfig
from ...core_ops.recipes.context_regularization import ContextRegularization, ContextRegularizationConfig
from ...core_ops.recipes.textual_inversion import TextualInversion
from ...core_ops.term_weighting import BalancedWeights, FixedWeights
from ...core_ops.training_data import TrainingImages
from ...core_ops.training_loop import LoopConfig, Recipe, TrainingLoop
from ..host import concept_files
from ..host.denoiser import HostDenoiser
from ..host.module_copy import autograd_mode
from ..host.precision import dtype_for
from ..host.text_encoder import HostTextEncoder
from ..training.card import training_card
from ..training.images import encode_images
from ..training.inputs import HostModels
from ..training.memory import memory_plan
from ..training.optimizers import STATE_BYTES
from ..training.preview import PREVIEW_TEMPLATES, ConceptPreview
from ..training.run import RunPlan, TrainingRun
from .inputs import CheckedInputs
from .settings import ATTNDREAMBOOTH, BALANCED, CORE_REFERENCE, TEXTUAL_INVERSION

REMEDY = "Lower batch_size or resolution, or switch gradient_checkpointing on."


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
        images = encode_images(host, checked.captioned, settings.augmentation, settings.seed)
        self._latent_shape = images.latents.shape[1:]
        dtype = dtype_for(settings.precision, host.model.load_device)
        with autograd_mode():
            self.encoder = HostTextEncoder(host.clip)
            self.denoiser = HostDenoiser(host.model, dtype, settings.resolution, settings.resolution)
            self.embedding = ConceptEmbedding(self._initial_vectors())
            self.make_room(self._memory_plan(images), REMEDY)
            if settings.gradient_checkpointing:
                self.denoiser.checkpoint_blocks()
            recipe = self._recipe(images, settings.batch_size)
            self.loop = TrainingLoop(recipe, self._loop_config(dtype), self._weighting())
            self.resume(checked.resumed)

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def preview(self) -> Tensor:
        rows, caption = self.checked.rows, self.checked.settings.caption
        prompts = [rows.concept(caption(template)) for template in PREVIEW_TEMPLATES]
        preview = ConceptPreview(self.host, self.encoder, self.denoiser, prompts, rows.text(""))
        return preview.draw(self.embedding.vectors, self._latent_shape)

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

    def _initial_vectors(self) -> dict[str, Tensor]:
        settings = self.checked.settings
        words = self.checked.rows.words(settings.initial_words or settings.super_category)
        embeddings = self.encoder.word_embeddings(dict(zip(self.encoder.names, words, strict=True)))
        return {name: spread_over_vectors(value, settings.vectors) for name, value in embeddings.items()}

    def _recipe(self, images: TrainingImages, batch_size: int) -> Recipe:
        settings = self.checked.settings
        problem = EmbeddingProblem(self.encoder, self.denoiser, images, self.embedding)
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

    def _memory_plan(self, images: TrainingImages) -> MemoryPlan:
        settings = self.checked.settings
        return memory_plan(
            lambda batch_size: self._recipe(images, batch_size),
            settings.batch_size,
            (self.encoder, self.denoiser),
            settings.gradient_checkpointing,
            STATE_BYTES["AdamW"],
            maps=0 if settings.method == TEXTUAL_INVERSION else self.denoiser.largest_map(self._latent_shape[1:]),
        )

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
