"""The work behind "U-Net Identity Finetune", stage by stage: from checked inputs to files and a patched MODEL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core_ops.recipes.identity_finetuning import FinetuningProblem, IdentityFinetuning, IdentityFinetuningConfig
from ...core_ops.training.embedding_problem import ConceptEmbedding
from ...core_ops.training.memory_estimate import META, MemoryPlan
from ...core_ops.training.training_data import TrainingLatents
from ...core_ops.training.training_loop import TrainingLoop
from ..concept import Concept, LoraModel
from ..files import concept_files, unet_files
from ..host.models.denoiser import unet_of
from ..host.models.host_models import HostModels, TrainingModels
from ..host.models.latents import encode_pictures, validate_decoder
from ..host.models.lora_loading import start_adapters
from ..host.models.module_copy import autograd_mode
from ..host.models.text_encoder import encoder_names
from ..host.models.trainable_unet import LORA
from ..host.run_control import show_text
from ..training.concept_preview import ConceptPreview, show_pictures
from ..training.kept_trainings import FinishedTraining
from ..training.memory_plan import CHECKPOINTING, PlannedMemory, rehearsed_latents, rehearsed_plan, without_state
from ..training.optimizers import OPTIMIZERS, STATE_BYTES, with_own_rates
from ..training.session import Session, SessionCallbacks, SessionPlan
from ..training.shared_settings import loop_config, steady_loss
from .finetune_inputs import STATE_SUFFIX, CheckedFinetune
from .finetune_results import TrainedWeights, patched_clip, patched_model, read_weights
from .learned_weights import LearnedWeights, phrases
from .widget_settings import SAVE_TRAINED

MEASURE_EVERY = 10
SMALLEST: dict[str, Any] = {"form": LORA, "save": SAVE_TRAINED, "batch_size": 1, **CHECKPOINTING}
SMALLEST |= {"train_text_encoder": False}
LESS_MEMORY: tuple[dict[str, Any], ...] = (
    CHECKPOINTING,
    {"batch_size": 1},
    {"form": LORA, "save": SAVE_TRAINED},
    {"optimizer": "Adafactor"},
    {"train_text_encoder": False},
    {"offload": 1.0},
    {"precision": "auto"},
    {"batch_size": 1, **CHECKPOINTING},
    SMALLEST,
    {**SMALLEST, "offload": 1.0},
)
"""What is tried where a training does not fit."""


@dataclass(frozen=True)
class Finetuned:
    """What a run leaves. clip: the one given, where the text encoder was not trained. lora: None where the U-Net has
    none. preview, chart: [1, H, W, 3]."""

    model: Any
    clip: Any
    lora: LoraModel | None
    losses: Mapping[str, list[float]]
    preview: Tensor
    chart: Tensor
    path: Path
    concepts: Sequence[Concept]
    summary: str


def finetune_unet(host: HostModels, checked: CheckedFinetune, node_id: str | None) -> Finetuned:
    """The whole run, unless its files are there; the copies of the host's models end with this function."""
    if checked.beginning.finished:
        return finished_finetune(host, checked)
    settings, training = checked.settings, ready_to_finetune(host, checked, node_id)
    session, learned = training.session, training.learned
    with session.keeping_progress():
        session.train()
        card = learned.card(session.record())
        with session.loop.averaged():
            weights, path = learned.save(card, node_id)
            concepts = learned.save_concepts(settings.name, checked.overwrites, card)
        preview = session.finish(path, checked.pictures.pictures)
    trained = sum(parameter.numel() for parameter in session.loop.recipe.parameters)
    facts = [_listed(path), f"{trained:,} numbers were trained."]
    if weights.kept is not None:
        facts.append(f"The LoRA keeps {weights.kept:.1%} of the change's squared norm.")
    return Finetuned(
        model=patched_model(
            host.model, weights if settings.saves_unet else replace(weights, unet=None), settings.rank_schedule
        ),
        clip=patched_clip(host.clip, weights),
        lora=lora_model(weights, card),
        losses=session.losses,
        preview=preview,
        chart=session.chart(),
        path=path,
        concepts=concepts,
        summary=session.summary(path, phrases(concepts), *facts),
    )


def _listed(path: Path) -> str:
    """Where to find what was written."""
    if path.parent.name == "loras":
        return "The file is in ComfyUI's output folder: press r, and Load LoRA lists it."
    return "The file is in ComfyUI's output folder: press r, and Load Diffusion Model lists it."


def finished_finetune(host: HostModels, checked: CheckedFinetune) -> Finetuned:
    """As its training left it."""
    files, concepts = checked.files, checked.concepts.concepts
    trained = checked.settings.weight_choice.names(unet_of(host.model))
    weights, path = read_weights(files.unet, trained, files.lora), files.written[0]
    if files.embeddings:
        names = encoder_names(host.clip)
        concepts = [
            concept.learned_further(file.stem, concept_files.read_embedding(file, names)[0], file)
            for concept, file in zip(concepts, files.embeddings, strict=True)
        ]
    before = FinishedTraining.read(path)
    return Finetuned(
        model=patched_model(host.model, weights, checked.settings.rank_schedule),
        clip=patched_clip(host.clip, weights),
        lora=lora_model(weights, before.card),
        losses=before.losses,
        preview=before.preview(checked.pictures.pictures),
        chart=before.chart(),
        path=path,
        concepts=concepts,
        summary=before.summary(checked.settings.name, phrases(concepts), _listed(path)),
    )


@dataclass(frozen=True)
class Finetuning:
    """Ready for its first step."""

    models: TrainingModels
    learned: LearnedWeights
    session: Session


def ready_to_finetune(host: HostModels, checked: CheckedFinetune, node_id: str | None = None) -> Finetuning:
    """Room, pictures, models, recipe, session. Raises ValueError, before any copy, where it would not fit."""
    settings = checked.settings
    plan = session_plan(checked)
    show_text("Measuring memory …", node_id)
    show_pictures(checked.pictures.pictures, node_id)
    memory = PlannedMemory(host, checked, planned=planned, changes=LESS_MEMORY)
    show_text("\n".join([f"The training {memory.text}. Encoding the pictures …", *checked.notes]), node_id)
    latents = encode_pictures(host, checked.pictures, copies=settings.augmentation, seed=settings.seed)
    class_latents = checked.class_pictures and encode_pictures(
        host, checked.class_pictures, copies=0, seed=settings.seed
    )
    measured = checked.held_out and encode_pictures(host, checked.held_out, copies=0, seed=settings.seed)
    if settings.preview_every:
        validate_decoder(host, latents.latents[0].unsqueeze(0))
    memory.begin()
    show_text("Copying the model …", node_id)
    with autograd_mode():
        models = host.copied(settings.unet_plan(host.model), settings.text_choice)
        if checked.start is not None:
            start_adapters(models.denoiser.trainable, checked.start)
        embedding = ConceptEmbedding({name: v.to(host.device) for name, v in checked.concepts.vectors().items()})
        loop = assembled(checked, models, (latents, class_latents), embedding)
        learned = LearnedWeights(host, checked, models=models, embedding=embedding)
        preview = ConceptPreview(host, models, checked.preview)
        if not settings.encodes_anew:
            preview.keep_prompts(embedding)
            models.encoder.release()
        callbacks = SessionCallbacks(
            lambda: preview.draw(embedding, len(latents.latents[0])),
            learned.keep,
            steady=steady_loss(loop, measured or latents, settings, samples=checked.beginning.steady_samples),
        )
        session = Session(plan, loop, callbacks=callbacks, memory=memory, node_id=node_id)
        checked.beginning.resume(session)
    return Finetuning(models, learned, session)


def session_plan(checked: CheckedFinetune) -> SessionPlan:
    settings = checked.settings
    as_trained = unet_files.new_file_path("diffusion_models" if settings.replaces_weights else "loras", settings.name)
    text = checked.files.lora if settings.train_text_encoder else None
    return SessionPlan(
        settings.name,
        list(dict.fromkeys(file.parent for file in (as_trained, text, *checked.files.embeddings) if file)),
        settings.name + STATE_SUFFIX,
        settings=settings,
        made_of=checked.made_of,
        notes=checked.notes,
        others=[concept.name for concept in checked.concepts.concepts[1:]],
    )


def planned(host: HostModels, checked: CheckedFinetune) -> MemoryPlan:
    """What a training would take: the same parts, made of shapes alone."""
    settings = checked.settings
    with autograd_mode():
        models = host.copied(settings.unet_plan(host.model, META), settings.text_choice)
        channels = models.denoiser.unet.in_channels
        latents = rehearsed_latents(checked.pictures, settings.augmentation, channels)
        class_latents = checked.class_pictures and rehearsed_latents(checked.class_pictures, 0, channels)
        vectors = checked.concepts.vectors()
        embedding = ConceptEmbedding({name: torch.empty_like(v, device=META) for name, v in vectors.items()})
        loop = assembled(checked, models, (latents, class_latents), embedding, rehearsal=True)
        return rehearsed_plan(
            models,
            latents,
            loop=loop,
            device=host.device,
            optimizer_bytes=STATE_BYTES[settings.optimizer],
            encoder_stays=settings.encodes_anew,
        )


def assembled(
    checked: CheckedFinetune,
    models: TrainingModels,
    latents: tuple[TrainingLatents, TrainingLatents | None],
    embedding: ConceptEmbedding,
    rehearsal: bool = False,
) -> TrainingLoop:
    """The recipe and its loop. latents: of the pictures, and of the class images where there are any."""
    settings, problem = checked.settings, finetuning_problem(checked, models, latents, embedding)
    recipe = IdentityFinetuning(
        IdentityFinetuningConfig(
            batch_size=settings.batch_size,
            train_embedding=settings.train_embedding,
            prior_weight=settings.prior_weight,
            alignment=checked.alignment,
            semantic_weight=settings.semantic_weight,
        ),
        problem,
    )
    several_terms = bool(checked.alignment or problem.class_latents or problem.class_prompts)
    config = loop_config(
        settings,
        fp16=models.denoiser.dtype == torch.float16 and not rehearsal,
        measure_every=MEASURE_EVERY if several_terms and not settings.fused_backward else 0,
        fused_backward=settings.fused_backward,
    )
    make = partial(OPTIMIZERS[settings.optimizer], weight_decay=settings.weight_decay)
    optimizer = without_state if rehearsal else make
    along = [(problem.text_weights, settings.text_encoder_rate)] if settings.train_text_encoder else []
    along += [(embedding.parameters, settings.embedding_rate)] if settings.train_embedding else []
    if along:
        optimizer = with_own_rates(optimizer, along)
    return TrainingLoop(recipe, config, optimizer)


def finetuning_problem(
    checked: CheckedFinetune,
    models: TrainingModels,
    latents: tuple[TrainingLatents, TrainingLatents | None],
    embedding: ConceptEmbedding,
) -> FinetuningProblem:
    networks = models.denoiser.trainable, models.encoder.trainable
    weights, text_weights = ([] if each is None else list(each.parameters.values()) for each in networks)

    def draw_dropout(generator: torch.Generator) -> None:
        for each in filter(None, networks):
            each.dropout.draw(generator)

    return FinetuningProblem(
        models.encoder,
        models.denoiser,
        latents[0],
        embedding,
        weights=weights,
        text_weights=text_weights,
        class_latents=latents[1],
        class_prompts=checked.class_prompts,
        draw_dropout=draw_dropout,
        min_snr=checked.settings.min_snr_gamma,
    )


def lora_model(weights: TrainedWeights, card: Mapping[str, Any]) -> LoraModel | None:
    """For core's nodes: of the U-Net, and of the text encoder where that is trained along."""
    return None if weights.lora is None else LoraModel({**weights.lora, **weights.text}, card)
