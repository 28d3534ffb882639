"""The run behind "U-Net Identity Finetune": from checked inputs to written files and a patched MODEL."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core_ops.concept.concept_embedding import ConceptEmbedding
from ...core_ops.recipes.identity_finetuning import FinetuningProblem, IdentityFinetuning, IdentityFinetuningConfig
from ...core_ops.training.memory_estimate import META, MemoryPlan
from ...core_ops.training.term_weighting import FixedWeights
from ...core_ops.training.training_data import TrainingImages
from ...core_ops.training.training_loop import LoopConfig, TrainingLoop
from ..concept import Concept, LoraModel
from ..files import concept_files
from ..host.models.denoiser import HostDenoiser, UNetPlan
from ..host.models.module_copy import autograd_mode
from ..host.models.text_encoder import HostTextEncoder
from ..host.models.trainable_unet import LORA
from ..host.run_control import check_cancelled, show_text
from ..training.concept_preview import PREVIEW_TEMPLATES, ConceptPreview
from ..training.memory_plan import Rehearsed, memory_plan, on_meta, rehearsed_images, what_would_help, without_state
from ..training.optimizers import OPTIMIZERS, STATE_BYTES, Make, with_rate_of_its_own
from ..training.session import RunPlan, TrainingRun
from ..training.training_card import training_card
from ..training.training_images import encode_images
from ..training.training_inputs import HostModels
from .finetune_inputs import STATE_SUFFIX, CheckedFinetune
from .finetune_results import NewFile, TrainedWeights, collect, patched_model, save, with_extracted_lora
from .finetune_settings import SAVE_TRAINED, FinetuneSettings

MEASURE_EVERY = 10
CHECKPOINTING: dict[str, Any] = {"gradient_checkpointing": True, "checkpointing_levels": 0}
SMALLEST: dict[str, Any] = {"form": LORA, "save": SAVE_TRAINED, "batch_size": 1, **CHECKPOINTING}
LESS_MEMORY: tuple[dict[str, Any], ...] = (
    CHECKPOINTING,
    {"batch_size": 1},
    {"form": LORA, "save": SAVE_TRAINED},
    {"optimizer": "Adafactor"},
    {"offload": 1.0},
    {"precision": "auto"},
    {"batch_size": 1, **CHECKPOINTING},
    SMALLEST,
    {**SMALLEST, "offload": 1.0},
)
"""What is tried where a training does not fit."""


@dataclass(frozen=True)
class Finetuned:
    """What a run leaves. lora: None where no LoRA was asked for. preview: [1, H, W, 3]."""

    model: Any
    lora: LoraModel | None
    losses: dict[str, list[float]]
    preview: Tensor
    path: Path
    concept: Concept
    summary: str


def finetune(host: HostModels, checked: CheckedFinetune, node_id: str | None) -> Finetuned:
    """The whole run; the copies of the host's models end with this function."""
    run = FinetuneRun(host, checked, node_id)
    with run.nothing_lost():
        run.train()
        weights, path = run.save()
        concept = run.refined_concept(checked.settings.name, checked.settings.overwrite)
        preview = run.last_preview()
    lora = None if weights.lora is None else LoraModel(weights.lora, run.card())
    summary = run.summary(path, concept.phrase, *run.facts(weights.kept))
    return Finetuned(patched_model(host.model, weights), lora, run.losses, preview, path, concept, summary)


class FinetuneRun(TrainingRun):
    """One training of a U-Net's weights: the host's models copied, the pictures encoded, ready to `train`."""

    def __init__(self, host: HostModels, checked: CheckedFinetune, node_id: str | None = None) -> None:
        self.host, self.checked = host, checked
        settings = checked.settings
        super().__init__(_plan(settings, checked.fingerprint), node_id)
        with autograd_mode():
            memory = self._memory_plan(settings)
            self.make_room(memory, lambda room: what_would_help(settings, LESS_MEMORY, self._memory_plan, room))
        self.images = encode_images(host, checked.captioned, settings.augmentation, settings.seed)
        self.class_images = checked.class_captioned and encode_images(host, checked.class_captioned, 0, settings.seed)
        self.measure_peak(memory)
        with autograd_mode():
            self.encoder = HostTextEncoder(host.clip, self.device)
            self.embedding = ConceptEmbedding({name: v.to(self.device) for name, v in checked.concept.vectors.items()})
            self._preview = self._concept_preview()
            self.denoiser = self._denoiser(settings)
            problem = self._problem(self.encoder, self.denoiser, (self.images, self.class_images), self.embedding)
            self.loop = self._loop(settings, problem, OPTIMIZERS[settings.optimizer])
            if not settings.train_embedding:
                self.encoder.release()
            self.resume(checked.resumed)

    @classmethod
    def planned(cls, host: HostModels, checked: CheckedFinetune, settings: FinetuneSettings) -> MemoryPlan:
        """What a training would take, without beginning one."""
        run = cls.__new__(cls)
        run.host, run.checked = host, checked
        with autograd_mode():
            return run._memory_plan(settings)

    @property
    def device(self) -> torch.device:
        return self.host.model.load_device

    def preview(self) -> Tensor:
        return self._preview.draw(self.denoiser, self.embedding.vectors, self.images.latents.shape[1:])

    def _concept_preview(self) -> ConceptPreview:
        """Its prompts are encoded once and for all, unless the embedding is trained along."""
        rows, caption = self.checked.rows, self.checked.concept.caption
        prompts = [rows.concept(caption(template)) for template in PREVIEW_TEMPLATES]
        preview = ConceptPreview(self.host, self.encoder, prompts, rows.text(""))
        return preview if self.checked.settings.train_embedding else preview.encoded(self.embedding.vectors)

    def _denoiser(self, settings: FinetuneSettings, device: torch.device | None = None) -> HostDenoiser:
        side, dtype = settings.resolution, settings.dtype(self.host.model)
        plan = UNetPlan(dtype, side, side, settings.weight_choice(), settings.offload, device)
        denoiser = HostDenoiser(self.host.model, plan)
        if settings.gradient_checkpointing:
            denoiser.checkpoint_blocks(settings.checkpointing_levels)
        return denoiser

    def _problem(
        self,
        encoder: HostTextEncoder,
        denoiser: HostDenoiser,
        images: tuple[TrainingImages, TrainingImages | None],
        embedding: ConceptEmbedding,
    ) -> FinetuningProblem:
        weights = list(denoiser.trainable.parameters.values())
        return FinetuningProblem(encoder, denoiser, images[0], embedding, weights, images[1])

    def keep_step(self) -> str:
        """The weights as trained: no LoRA is extracted while the user waits for a cancel."""
        name = f"{self.checked.settings.name}-step{self.loop.step}"
        weights = collect(self.host.model, self.denoiser.trainable)
        path = save(self.host.model, weights, NewFile(name, self.card(), overwrite=True))
        self.refined_concept(name, overwrite=True)
        return str(path)

    def save(self) -> tuple[TrainedWeights, Path]:
        """Writes the files that were asked for."""
        settings = self.checked.settings
        weights = collect(self.host.model, self.denoiser.trainable)
        if settings.extracts_lora:
            weights = with_extracted_lora(self.host.model, weights, settings.rank, self._say_extracting)
        new = NewFile(settings.name, self.card(), settings.overwrite, whole=settings.saves_unet)
        return weights, save(self.host.model, weights, new)

    def _say_extracting(self, done: int, total: int) -> None:
        show_text(f"extracting the LoRA: weight {done + 1} of {total}", self.node_id)
        check_cancelled()

    def refined_concept(self, name: str, overwrite: bool) -> Concept:
        """The concept as it is now: written under this name when it was trained along, else the one that came."""
        concept = self.checked.concept
        if not self.checked.settings.train_embedding:
            return concept
        vectors = self.embedding.snapshot()
        refined = replace(concept, name=name, vectors=vectors, path=concept_files.embedding_path(name))
        concept_files.save_embedding(name, vectors, self.card() | {"phrase": refined.phrase}, overwrite)
        return refined

    def card(self) -> dict[str, Any]:
        """What the files say about themselves."""
        settings = self.checked.settings
        training = {
            "resolution": settings.resolution,
            "phrase": self.checked.concept.phrase,
            "super_category": self.checked.concept.super_category,
            "with_category": self.checked.concept.with_category,
            "steps_done": self.loop.step,
            "settings": asdict(settings),
            "final_terms": {name: values[-1] for name, values in self.losses.items() if values},
            "memory": self.memory,
        }
        return training_card(self.host, training)

    def facts(self, kept: float | None) -> list[str]:
        """Further lines for the summary. kept: share of the change that an extracted LoRA holds."""
        trained = sum(parameter.numel() for parameter in self.loop.recipe.parameters)
        lines = [f"{trained:,} numbers were trained."]
        if kept is not None:
            lines.append(f"The LoRA keeps {kept:.1%} of the change's squared norm.")
        return lines

    def _loop(self, settings: FinetuneSettings, problem: FinetuningProblem, make: Make) -> TrainingLoop:
        recipe = IdentityFinetuning(self._config(settings.batch_size), problem)
        rehearsal = make is without_state
        if settings.train_embedding and settings.embedding_rate > 0:
            make = with_rate_of_its_own(make, problem.embedding.parameters, settings.embedding_rate)
        several_terms = self.checked.alignment is not None or problem.class_images is not None
        config = LoopConfig(
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            gradient_accumulation=settings.gradient_accumulation,
            max_gradient_norm=settings.max_gradient_norm,
            measure_every=MEASURE_EVERY if several_terms and not settings.fused_backward else 0,
            seed=settings.seed,
            fp16_scaling=settings.dtype(self.host.model) == torch.float16 and not rehearsal,
            fused_backward=settings.fused_backward,
        )
        return TrainingLoop(recipe, config, FixedWeights({"prior_preservation": settings.prior_weight}), make)

    def _config(self, batch_size: int) -> IdentityFinetuningConfig:
        return IdentityFinetuningConfig(batch_size, self.checked.settings.train_embedding, self.checked.alignment)

    def _memory_plan(self, settings: FinetuneSettings) -> MemoryPlan:
        """What the training would take with these settings: the same parts, made of shapes alone."""
        encoder = HostTextEncoder(self.host.clip, META, self.device)
        denoiser = self._denoiser(settings, META)
        images, class_images = (
            given and rehearsed_images(given, copies, denoiser.unet.in_channels)
            for given, copies in ((self.checked.captioned, settings.augmentation), (self.checked.class_captioned, 0))
        )
        embedding = ConceptEmbedding(on_meta(self.checked.concept.vectors))
        problem = self._problem(encoder, denoiser, (images, class_images), embedding)
        loop = self._loop(settings, problem, without_state)
        rehearsed = Rehearsed(encoder, denoiser, images, loop, encoder_stays=settings.train_embedding)
        return memory_plan(rehearsed, self.device, STATE_BYTES[settings.optimizer])


def _plan(settings: FinetuneSettings, fingerprint: str) -> RunPlan:
    return RunPlan(
        settings.name + STATE_SUFFIX,
        settings.name,
        settings.steps,
        settings.preview_every,
        settings.save_every,
        fingerprint,
    )
