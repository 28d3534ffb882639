"""The work behind "CoRe Train Embedding", stage by stage: from checked inputs to a written embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...core_ops.space_time.reading import read_space_time
from ...core_ops.space_time.space_time_embedding import SpaceTimeEmbedding
from ...core_ops.training.embedding_problem import EmbeddingProblem, TrainableEmbedding, spread_over_vectors
from ...core_ops.training.memory_estimate import META, MemoryPlan
from ...core_ops.training.optimization import ADAMW_BYTES
from ...core_ops.training.training_data import TrainingLatents
from ...core_ops.training.training_loop import TrainingLoop
from ..concept import Concept
from ..files import concept_files
from ..host.models.host_models import HostModels, TrainingModels
from ..host.models.latents import encode_pictures, validate_decoder
from ..host.models.module_copy import autograd_mode
from ..host.models.text_encoder import encoder_names
from ..host.run_control import show_text
from ..training.advice import advised, on_shares
from ..training.concept_preview import ConceptPreview, show_pictures
from ..training.kept_trainings import FinishedTraining
from ..training.memory_plan import CHECKPOINTING, PlannedMemory, rehearsed_latents, rehearsed_plan, without_state
from ..training.session import Session, SessionCallbacks, SessionPlan
from ..training.shared_settings import loop_config, steady_loss
from .embedding_inputs import CheckedInputs

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
MEASURE_EVERY, AVERAGED_OVER = 5, 10
"""Steps, and measurements: fewer leave noise in the mean of the diffusion's gradients, more lag behind v."""


@dataclass(frozen=True)
class TrainedEmbedding:
    """What a run leaves: the concept in its file, the curves, and pictures [1, H, W, 3]."""

    concept: Concept
    losses: Mapping[str, list[float]]
    preview: Tensor
    chart: Tensor
    summary: str


def train_embedding(host: HostModels, checked: CheckedInputs, node_id: str | None) -> TrainedEmbedding:
    """The whole run, unless its file is there; the copies of the host's models end with this function."""
    if checked.beginning.finished:
        return finished_embedding(host, checked)
    training = ready_to_train(host, checked, node_id)
    session = training.session
    with session.keeping_progress():
        session.train()
        with session.loop.averaged():
            concept = training.learned.save(checked.concept.name, checked.settings.overwrite, session.record())
        preview = session.finish(concept.path, checked.pictures.pictures)
    hardly = advised(on_shares(session.shares, checked.settings.fixed_regularizers))
    summary = session.summary(concept.path, concept.phrase, *concept.notes, *hardly)
    return TrainedEmbedding(concept, session.losses, preview=preview, chart=session.chart(), summary=summary)


def finished_embedding(host: HostModels, checked: CheckedInputs) -> TrainedEmbedding:
    """As its training left it."""
    concept = checked.concept
    vectors, space_time = concept_files.read_embedding(concept.path, encoder_names(host.clip))
    concept, before = replace(concept, vectors=vectors, space_time=space_time), FinishedTraining.read(concept.path)
    return TrainedEmbedding(
        concept,
        before.losses,
        preview=before.preview(checked.pictures.pictures),
        chart=before.chart(),
        summary=before.summary(concept.name, concept.phrase, *concept.notes),
    )


@dataclass(frozen=True)
class EmbeddingTraining:
    """Ready for its first step."""

    models: TrainingModels
    learned: LearnedEmbedding
    session: Session


def ready_to_train(host: HostModels, checked: CheckedInputs, node_id: str | None = None) -> EmbeddingTraining:
    """Room, pictures, models, concept, recipe, session. Raises ValueError, before any copy, where it would not fit."""
    settings, name = checked.settings, checked.concept.name
    folders = [checked.concept.path.parent]
    plan = SessionPlan(name, folders, name, settings=settings, made_of=checked.made_of, notes=checked.notes)
    show_text("Measuring memory …", node_id)
    show_pictures(checked.pictures.pictures, node_id)
    memory = PlannedMemory(host, checked, planned=planned, changes=LESS_MEMORY)
    show_text("\n".join([f"The training {memory.text}. Encoding the pictures …", *checked.notes]), node_id)
    latents = encode_pictures(host, checked.pictures, copies=settings.augmentation, seed=settings.seed)
    measured = checked.held_out and encode_pictures(host, checked.held_out, copies=0, seed=settings.seed)
    if settings.preview_every:
        validate_decoder(host, latents.latents[0].unsqueeze(0))
    memory.begin()
    show_text("Copying the model …", node_id)
    with autograd_mode():
        models = host.copied(settings.unet_plan(host.model))
        embedding, loop = assembled(checked, models, latents)
        learned = LearnedEmbedding(host, checked, embedding)
        preview = ConceptPreview(host, models, checked.preview)
        callbacks = SessionCallbacks(
            lambda: preview.draw(embedding, len(latents.latents[0])),
            learned.keep,
            steady=steady_loss(loop, measured or latents, settings, samples=checked.beginning.steady_samples),
        )
        session = Session(plan, loop, callbacks=callbacks, memory=memory, node_id=node_id)
        checked.beginning.resume(session)
    return EmbeddingTraining(models, learned, session)


def planned(host: HostModels, checked: CheckedInputs) -> MemoryPlan:
    """What a training would take: the same parts, made of shapes alone."""
    settings = checked.settings
    with autograd_mode():
        models = host.copied(settings.unet_plan(host.model, META))
        latents = rehearsed_latents(checked.pictures, settings.augmentation, models.denoiser.unet.in_channels)
        _, loop = assembled(checked, models, latents, rehearsal=True)
        return rehearsed_plan(models, latents, loop=loop, device=host.device, optimizer_bytes=ADAMW_BYTES)


def assembled(
    checked: CheckedInputs, models: TrainingModels, latents: TrainingLatents, rehearsal: bool = False
) -> tuple[TrainableEmbedding, TrainingLoop]:
    """v as it starts, and the method that trains it."""
    settings, method = checked.settings, checked.settings.chosen_method
    start = method.start(models.encoder, checked)
    further = checked.start and {
        name: spread_over_vectors(checked.start[name].to(like.device), settings.vectors) for name, like in start.items()
    }
    embedding = method.learned(further or start, models.denoiser, settings.seed)
    problem = EmbeddingProblem(
        models.encoder, models.denoiser, latents=latents, embedding=embedding, min_snr=settings.min_snr_gamma
    )
    recipe = method.recipe(problem, checked)
    fp16 = models.denoiser.dtype == torch.float16 and not rehearsal
    config = loop_config(settings, fp16, measure_every=MEASURE_EVERY, averaged_over=AVERAGED_OVER)
    optimizer = without_state if rehearsal else method.optimizer(checked, start)
    return embedding, TrainingLoop(recipe, config, optimizer)


@dataclass(frozen=True)
class LearnedEmbedding:
    """The embedding as it is now, and its files."""

    host: HostModels
    checked: CheckedInputs
    embedding: TrainableEmbedding

    def save(self, name: str, overwrite: bool, record: Mapping[str, Any]) -> Concept:
        """Writes it under a name; record: of the training, for its card."""
        vectors, embedding = self.embedding.snapshot(), self.embedding
        by_layer = embedding.tensors() if isinstance(embedding, SpaceTimeEmbedding) else {}
        concept = replace(
            self.checked.concept,
            name=name,
            vectors=vectors,
            path=concept_files.embedding_path(name),
            space_time=read_space_time(by_layer, vectors),  # as the file has it, which goes on changing no more
        )
        settings = self.checked.settings
        about = {
            "resolution": settings.resolution,
            "phrase": concept.phrase,
            "super_category": concept.super_category,
            "with_category": concept.with_category,
            "pictures": self.checked.told,
            "settings": asdict(settings),
            **record,
        }
        concept_files.save_embedding(
            name, concept.vectors, card=self.host.card(about), overwrite=overwrite, space_time=concept.space_time
        )
        return concept

    def keep(self, name: str, record: Mapping[str, Any]) -> str:
        """For a session that goes on, or stops early; returns what to write in prompts."""
        return self.save(name, overwrite=True, record=record).phrase
