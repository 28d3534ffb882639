"""The run behind "CoRe Train Embedding": from checked inputs to a written embedding."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core_ops.aligned_diffusion import Alignment
from ..core_ops.concept_embedding import ConceptEmbedding, spread_over_vectors
from ..core_ops.conditioning import Embedding
from ..core_ops.ddim import DDIMConfig, ddim_sample
from ..core_ops.embedding_recipe import EmbeddingProblem
from ..core_ops.image_preparation import augment, latent_masks
from ..core_ops.recipes.attndreambooth import AttnDreamBooth, AttnDreamBoothConfig
from ..core_ops.recipes.context_regularization import ContextRegularization, ContextRegularizationConfig
from ..core_ops.recipes.textual_inversion import TextualInversion
from ..core_ops.term_weighting import BalancedWeights, FixedWeights
from ..core_ops.training_data import TrainingImages
from ..core_ops.training_loop import LoopConfig, Recipe, StepReport, TrainingLoop
from .embedding_inputs import CheckedInputs, HostModels
from .embedding_settings import ATTNDREAMBOOTH, BALANCED, CORE_REFERENCE, TEXTUAL_INVERSION
from .host import concept_files, latents
from .host.denoiser import HostDenoiser
from .host.model_identity import architecture, base_model_fingerprint, base_model_name
from .host.module_copy import autograd_mode
from .host.precision import dtype_for
from .host.run_control import RunProgress
from .host.text_encoder import HostTextEncoder
from .version import pack_version

PREVIEW_TEMPLATES = ("a photo of a {}", "a {} in the snow", "a {} on the beach", "a painting of a {}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedEmbedding:
    """What a run leaves: vectors on the CPU, the file, the curves and a preview [1, H, W, 3]."""

    vectors: Embedding
    path: Path
    losses: dict[str, list[float]]
    preview: Tensor


def train_embedding(host: HostModels, checked: CheckedInputs, node_id: str | None) -> TrainedEmbedding:
    """The whole run; the copies of the host's models end with this function."""
    run = EmbeddingRun(host, checked, node_id)
    path = run.train()
    return TrainedEmbedding(run.embedding.snapshot(), path, run.losses, run.preview().unsqueeze(0))


class EmbeddingRun:
    """One training of an embedding: the host's models copied, the pictures encoded, ready to `train`."""

    def __init__(self, host: HostModels, checked: CheckedInputs, node_id: str | None = None) -> None:
        self.host, self.checked, self.node_id = host, checked, node_id
        self.losses: dict[str, list[float]] = {}
        self.shares: dict[str, float] = {}
        settings, device = checked.settings, host.model.load_device
        images = self._encode_images()
        self._latent_shape = images.latents.shape[1:]
        dtype = dtype_for(settings.precision, device)
        with autograd_mode():
            self.encoder = HostTextEncoder(host.clip)
            self.denoiser = HostDenoiser(host.model, dtype, settings.resolution, settings.resolution)
            if settings.gradient_checkpointing:
                self.denoiser.checkpoint_blocks()
            self.embedding = ConceptEmbedding(self._initial_vectors())
            self.loop = TrainingLoop(self._recipe(images), self._loop_config(dtype), self._weighting())
            if checked.resumed is not None:
                self.loop.load_state_dict(checked.resumed["loop"])
                self.losses = {name: list(values) for name, values in checked.resumed["losses"].items()}
        self._first_step = self.loop.step

    def train(self) -> Path:
        """Runs to the end and writes the embedding; however it stops, state and embedding so far are written first."""
        settings = self.checked.settings
        progress = RunProgress(settings.steps, self.node_id, done=self.loop.step)
        try:
            with autograd_mode():
                for report in self.loop:
                    self._note(report)
                    preview = self.preview() if _due(report.step, settings.preview_every) else None
                    if _due(report.step, settings.save_every):
                        self.save_state()
                    progress.update(report.step, self._describe(report), preview)
            return self._save_embedding(settings.concept_name, settings.overwrite)
        except BaseException:
            self._keep_what_was_learned()
            raise

    def save_state(self) -> None:
        """Writes the state to resume from, and the embedding of this step beside it under a name of its own."""
        name = self.checked.settings.concept_name
        concept_files.save_state(
            name,
            {
                "loop": self.loop.state_dict(),
                "losses": self.losses,
                "fingerprint": self.checked.fingerprint,
            },
        )
        self._save_embedding(f"{name}-step{self.loop.step}", overwrite=True)

    def preview(self) -> Tensor:
        """Pictures [H, W, 3] side by side of the concept as it is, in a few contexts; changes no random state."""
        rows = [self.checked.rows.concept(self.checked.settings.caption(template)) for template in PREVIEW_TEMPLATES]
        noise = torch.randn(len(rows), *self._latent_shape, generator=torch.Generator().manual_seed(0))
        with autograd_mode(), torch.no_grad():
            text = self.encoder.encode(rows, self.embedding.vectors)
            empty = self.encoder.encode([self.checked.rows.text("")], {})
            z = ddim_sample(self.denoiser, text, empty, noise.to(self.host.model.load_device), DDIMConfig())
        return torch.cat(list(latents.decode(self.host.model, self.host.vae, z)), dim=1)

    def _save_embedding(self, name: str, overwrite: bool) -> Path:
        return concept_files.save_embedding(name, self.embedding.snapshot(), self._card(name), overwrite)

    def _card(self, name: str) -> dict[str, Any]:
        """What the file of this name says about itself."""
        settings = self.checked.settings
        return {
            "architecture": architecture(self.host.model, self.host.clip),
            "base_model": base_model_name(self.host.model),
            "base_model_fingerprint": base_model_fingerprint(self.host.model),
            "pack_version": pack_version(),
            "resolution": settings.resolution,
            "phrase": settings.caption("{}").replace("{}", f"embedding:{name}"),
            "steps_done": self.loop.step,
            "settings": asdict(settings),
            "final_terms": {name: values[-1] for name, values in self.losses.items() if values},
            "gradient_shares": self.shares,
        }

    def _note(self, report: StepReport) -> None:
        for name, value in {"loss": report.total, **report.terms, **report.observations}.items():
            self.losses.setdefault(name, []).append(value)
        if report.gradient_shares is not None:
            self.shares = dict(report.gradient_shares)
            for name, value in self.shares.items():
                self.losses.setdefault(f"gradient_share.{name}", []).append(value)

    def _describe(self, report: StepReport) -> str:
        terms = ", ".join(f"{name} {value:.4g}" for name, value in report.terms.items())
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items())
        return f"{terms} · gradient: {shares}"

    def _keep_what_was_learned(self) -> None:
        if self.loop.step == self._first_step:
            return
        try:
            self.save_state()
        except Exception:
            logger.exception("The state could not be saved; the error that stopped the training follows.")
            return
        name = self.checked.settings.concept_name
        message = (
            f"{name}: stopped after step {self.loop.step}. Kept: embedding:{name}-step{self.loop.step}, and a state to "
            f"continue from with resume_from = {name}."
        )
        logger.info(message)
        RunProgress(self.checked.settings.steps, self.node_id).say(message)

    def _encode_images(self) -> TrainingImages:
        settings, pictures = self.checked.settings, self.checked.pictures
        copies = max(settings.augmentation, 1)
        if settings.augmentation:
            pictures = augment(pictures, copies, torch.Generator().manual_seed(settings.seed))
        device = self.host.model.load_device
        return TrainingImages(
            latents.encode(self.host.model, self.host.vae, pictures.pixels, settings.seed),
            self.checked.captions,
            torch.tensor(self.checked.caption_of_picture).repeat_interleave(copies),
            None if pictures.masks is None else latent_masks(pictures.masks).to(device),
        )

    def _initial_vectors(self) -> dict[str, Tensor]:
        settings = self.checked.settings
        words = self.checked.rows.words(settings.initial_words or settings.super_category)
        embeddings = self.encoder.word_embeddings(dict(zip(self.encoder.names, words, strict=True)))
        return {name: spread_over_vectors(value, settings.vectors) for name, value in embeddings.items()}

    def _recipe(self, images: TrainingImages) -> Recipe:
        settings = self.checked.settings
        problem = EmbeddingProblem(self.encoder, self.denoiser, images, self.embedding)
        if settings.method == TEXTUAL_INVERSION:
            return TextualInversion(problem, settings.batch_size)
        if settings.method == ATTNDREAMBOOTH:
            category_tokens = len(self.checked.rows.words(settings.super_category)[0])
            alignment = Alignment(settings.alignment_mean, settings.alignment_variance, category_tokens)
            return AttnDreamBooth(AttnDreamBoothConfig(settings.batch_size, alignment), problem)
        formulation = "reference_code" if settings.method == CORE_REFERENCE else "paper"
        config = ContextRegularizationConfig(
            settings.batch_size,
            formulation,
            settings.rescale_from,
            settings.rescale_to,
            settings.regularization_batch,
        )
        return ContextRegularization(config, problem, self.checked.prompts)

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
            return BalancedWeights(shares, weights)
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


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
