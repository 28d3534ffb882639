"""The run behind "U-Net Identity Finetune": from checked inputs to written files and a patched MODEL."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core_ops.concept_embedding import ConceptEmbedding
from ...core_ops.memory_estimate import MemoryPlan
from ...core_ops.recipes.identity_finetuning import FinetuningProblem, IdentityFinetuning, IdentityFinetuningConfig
from ...core_ops.term_weighting import FixedWeights
from ...core_ops.training_loop import LoopConfig, TrainingLoop
from ..concept import Concept, LoraModel
from ..host import concept_files
from ..host.denoiser import HostDenoiser
from ..host.module_copy import autograd_mode
from ..host.precision import dtype_for
from ..host.run_control import check_cancelled, show_text
from ..host.text_encoder import HostTextEncoder
from ..host.unet_weights import unet_weights
from ..training.card import training_card
from ..training.images import encode_images
from ..training.inputs import HostModels
from ..training.memory import memory_plan
from ..training.optimizers import OPTIMIZERS, STATE_BYTES, with_rate_of_its_own
from ..training.preview import PREVIEW_TEMPLATES, ConceptPreview
from ..training.run import RunPlan, TrainingRun
from .inputs import STATE_SUFFIX, CheckedFinetune
from .results import NewFile, TrainedWeights, collect, patched_model, save, with_extracted_lora
from .settings import FinetuneSettings

MEASURE_EVERY = 10
REMEDY = (
    "Lower batch_size or resolution, switch gradient_checkpointing or fused_backward on, or choose a smaller scope, "
    "the form LoRA, or the optimizer Adafactor."
)


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
        self.images = encode_images(host, checked.captioned, settings.augmentation, settings.seed)
        self.class_images = checked.class_captioned and encode_images(host, checked.class_captioned, 0, settings.seed)
        dtype = dtype_for(settings.precision, host.model.load_device)
        self._base = unet_weights(host.model)
        with autograd_mode():
            self.encoder = HostTextEncoder(host.clip)
            self.denoiser = HostDenoiser(
                host.model, dtype, settings.resolution, settings.resolution, settings.weight_choice()
            )
            device = self.encoder.device
            self.embedding = ConceptEmbedding({name: v.to(device) for name, v in checked.concept.vectors.items()})
            weights = list(self.denoiser.trainable.parameters.values())
            problem = FinetuningProblem(
                self.encoder, self.denoiser, self.images, self.embedding, weights, self.class_images
            )
            self.make_room(self._memory_plan(problem), REMEDY)
            if settings.gradient_checkpointing:
                self.denoiser.checkpoint_blocks()
            self.loop = self._loop(problem, dtype)
            self.resume(checked.resumed)

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def preview(self) -> Tensor:
        rows, caption = self.checked.rows, self.checked.concept.caption
        prompts = [rows.concept(caption(template)) for template in PREVIEW_TEMPLATES]
        preview = ConceptPreview(self.host, self.encoder, self.denoiser, prompts, rows.text(""))
        return preview.draw(self.embedding.vectors, self.images.latents.shape[1:])

    def keep_step(self) -> str:
        """The weights as trained: no LoRA is extracted while the user waits for a cancel."""
        name = f"{self.checked.settings.name}-step{self.loop.step}"
        weights = collect(self.host.model, self._base, self.denoiser.trainable)
        path = save(self.host.model, self._base, weights, NewFile(name, self.card(), overwrite=True))
        self.refined_concept(name, overwrite=True)
        return str(path)

    def save(self) -> tuple[TrainedWeights, Path]:
        """Writes the files that were asked for."""
        settings = self.checked.settings
        weights = collect(self.host.model, self._base, self.denoiser.trainable)
        if settings.extracts_lora:
            weights = with_extracted_lora(self.host.model, self._base, weights, settings.rank, self._say_extracting)
        new = NewFile(settings.name, self.card(), settings.overwrite, whole=settings.saves_unet)
        return weights, save(self.host.model, self._base, weights, new)

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

    def _loop(self, problem: FinetuningProblem, dtype: torch.dtype) -> TrainingLoop:
        settings = self.checked.settings
        recipe = IdentityFinetuning(self._config(settings.batch_size), problem)
        make = OPTIMIZERS[settings.optimizer]
        if settings.train_embedding and settings.embedding_rate > 0:
            make = with_rate_of_its_own(make, self.embedding.parameters, settings.embedding_rate)
        several_terms = self.checked.alignment is not None or problem.class_images is not None
        config = LoopConfig(
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            gradient_accumulation=settings.gradient_accumulation,
            max_gradient_norm=settings.max_gradient_norm,
            measure_every=MEASURE_EVERY if several_terms and not settings.fused_backward else 0,
            seed=settings.seed,
            fp16_scaling=dtype == torch.float16,
            fused_backward=settings.fused_backward,
        )
        return TrainingLoop(recipe, config, FixedWeights({"prior_preservation": settings.prior_weight}), make)

    def _config(self, batch_size: int) -> IdentityFinetuningConfig:
        return IdentityFinetuningConfig(batch_size, self.checked.settings.train_embedding, self.checked.alignment)

    def _memory_plan(self, problem: FinetuningProblem) -> MemoryPlan:
        settings = self.checked.settings
        return memory_plan(
            lambda batch_size: IdentityFinetuning(self._config(batch_size), problem),
            settings.batch_size,
            (self.encoder, self.denoiser),
            settings.gradient_checkpointing,
            STATE_BYTES[settings.optimizer],
            fused_backward=settings.fused_backward,
            maps=self.denoiser.largest_map(self.images.latents.shape[2:]) if settings.aligned else 0,
        )


def _plan(settings: FinetuneSettings, fingerprint: str) -> RunPlan:
    return RunPlan(
        settings.name + STATE_SUFFIX,
        settings.name,
        settings.steps,
        settings.preview_every,
        settings.save_every,
        fingerprint,
    )
