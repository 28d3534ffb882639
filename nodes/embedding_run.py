"""The run behind "CoRe Train Embedding": from checked inputs to a written embedding."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core_ops.concept_embedding import ConceptEmbedding, spread_over_vectors
from ..core_ops.ddim import DDIMConfig, ddim_sample
from ..core_ops.image_preparation import Pictures, augment, latent_masks, prepare_pictures
from ..core_ops.recipes.attndreambooth import AttnDreamBooth, AttnDreamBoothConfig
from ..core_ops.recipes.context_regularization import ContextRegularization, ContextRegularizationConfig
from ..core_ops.recipes.textual_inversion import TextualInversion, TextualInversionConfig
from ..core_ops.term_weighting import BalancedWeights, FixedWeights
from ..core_ops.token_rows import AlignedPair, TokenRow
from ..core_ops.training_data import TrainingImages
from ..core_ops.training_loop import LoopConfig, Recipe, StepReport, TrainingLoop
from .embedding_settings import ATTNDREAMBOOTH, BALANCED, CORE_REFERENCE, TEXTUAL_INVERSION, EmbeddingSettings
from .host import concept_files, latents
from .host.denoiser import HostDenoiser, validate_model
from .host.module_copy import autograd_mode
from .host.precision import dtype_for
from .host.prompt_rows import PromptRows
from .host.run_control import RunProgress
from .host.text_encoder import HostTextEncoder

PREVIEW_TEMPLATES = ("a photo of a {}", "a {} in the snow", "a {} on the beach", "a painting of a {}")
MAX_IMAGE_ROWS = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HostModels:
    """The host's objects as a node receives them."""

    model: Any
    clip: Any
    vae: Any


@dataclass(frozen=True)
class CheckedInputs:
    """Everything that can be refused has been looked at: what is left is work."""

    settings: EmbeddingSettings
    pictures: Pictures
    captions: Sequence[TokenRow]
    caption_of_picture: Sequence[int]
    prompts: Sequence[AlignedPair]
    rows: PromptRows
    resumed: dict[str, Any] | None


def check_inputs(
    host: HostModels,
    images: Sequence[Tensor],
    masks: Sequence[Tensor] | None,
    captions: Sequence[str] | None,
    settings: EmbeddingSettings,
) -> CheckedInputs:
    """Raises ValueError for everything that would make the run fail later."""
    concept_files.validate_new_embedding(settings.concept_name, settings.overwrite)
    validate_model(host.model)
    dtype_for(settings.precision, host.model.load_device)
    pictures = prepare_pictures(images, masks if settings.use_masks else None, settings.resolution, settings.fit)
    rows = PromptRows(host.clip, settings.super_category, settings.vectors)
    templates = caption_templates(captions, pictures.pixels.shape[0], settings.caption_template)
    distinct = list(dict.fromkeys(templates))
    prompts = [] if settings.method in (TEXTUAL_INVERSION, ATTNDREAMBOOTH) else settings.regularization_templates()
    if settings.initial_words and not rows.words(settings.initial_words)[0]:
        raise ValueError(f"initial_words: {settings.initial_words!r} gives no token; use plain words or leave it empty.")
    return CheckedInputs(
        settings,
        pictures,
        [rows.concept(settings.caption(template)) for template in distinct],
        [distinct.index(template) for template in templates],
        [rows.pair(template) for template in prompts],
        rows,
        _resumed_state(settings),
    )


def caption_templates(captions: Sequence[str] | None, pictures: int, default: str) -> list[str]:
    """One caption template per picture: given as a list, or as text with one line per picture, or the default for all."""
    lines = [line.strip() for text in captions or () for line in text.splitlines() if line.strip()]
    if not lines:
        return [default] * pictures
    if len(lines) != pictures:
        raise ValueError(f"captions: {len(lines)} came for {pictures} images; give one line per image, or none at all.")
    return lines


def settings_fingerprint(settings: EmbeddingSettings) -> str:
    """Of the settings that a resumed run must share with the run it continues."""
    shared = {key: value for key, value in asdict(settings).items() if key not in _FREE_TO_CHANGE}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


_FREE_TO_CHANGE = ("concept_name", "steps", "overwrite", "preview_every", "save_every", "resume_from", "gradient_checkpointing")


def _resumed_state(settings: EmbeddingSettings) -> dict[str, Any] | None:
    if not settings.resume_from:
        return None
    state = concept_files.load_state(settings.resume_from)
    if state["fingerprint"] != settings_fingerprint(settings):
        raise ValueError(
            f"resume_from: {settings.resume_from!r} was saved with other settings; use the same ones "
            "(name, steps, preview and saving may change), or start anew with an empty resume_from."
        )
    if state["loop"]["step"] >= settings.steps:
        raise ValueError(
            f"resume_from: {settings.resume_from!r} has {state['loop']['step']} steps done already; set steps above that."
        )
    return state


@dataclass
class EmbeddingRun:
    """A trainable run: create it inside `autograd_mode`, train it, then ask for its results."""

    host: HostModels
    checked: CheckedInputs
    node_id: str | None = None
    losses: dict[str, list[float]] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.checked.settings
        self.encoder = HostTextEncoder(self.host.clip)
        images = self._encode_images()
        dtype = dtype_for(settings.precision, self.host.model.load_device)
        with autograd_mode():
            self.denoiser = HostDenoiser(self.host.model, dtype, settings.resolution, settings.resolution)
            if settings.gradient_checkpointing:
                self.denoiser.checkpoint_blocks()
            self.embedding = ConceptEmbedding(self._initial_vectors())
            self.loop = TrainingLoop(self._recipe(images), self._loop_config(dtype), self._weighting())
            self._latent_shape = images.latents.shape[1:]
            if self.checked.resumed is not None:
                self.loop.load_state_dict(self.checked.resumed["loop"])
                self.losses = {name: list(values) for name, values in self.checked.resumed["losses"].items()}

    def train(self) -> None:
        """Runs to the end. However it stops, the state and the embedding so far are written first."""
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
        except BaseException:
            self._keep_what_was_learned()
            raise

    def save_embedding(self) -> Any:
        settings = self.checked.settings
        return concept_files.save_embedding(
            settings.concept_name, self.embedding.snapshot(), self.card(), overwrite=settings.overwrite
        )

    def save_state(self) -> None:
        """Writes the state to resume from, and the embedding of this step beside it under a name of its own."""
        name = self.checked.settings.concept_name
        concept_files.save_state(
            name,
            {
                "loop": self.loop.state_dict(),
                "losses": self.losses,
                "fingerprint": settings_fingerprint(self.checked.settings),
            },
        )
        concept_files.save_embedding(f"{name}-step{self.loop.step}", self.embedding.snapshot(), self.card(), overwrite=True)

    def preview(self) -> Tensor:
        """Pictures [H, W, 3] side by side of the concept as it is, in a few contexts; changes no random state."""
        rows = [self.checked.rows.concept(self.checked.settings.caption(template)) for template in PREVIEW_TEMPLATES]
        noise = torch.randn(len(rows), *self._latent_shape, generator=torch.Generator().manual_seed(0))
        with autograd_mode(), torch.no_grad():
            text = self.encoder.encode(rows, self.embedding.vectors)
            empty = self.encoder.encode([self.checked.rows.text("")], {})
            z = ddim_sample(self.denoiser, text, empty, noise.to(self.host.model.load_device), DDIMConfig())
        return torch.cat(list(latents.decode(self.host.model, self.host.vae, z)), dim=1)

    def card(self) -> dict[str, Any]:
        """What the file says about itself."""
        settings = self.checked.settings
        return {
            "architecture": ARCHITECTURES.get(type(self.host.model.model).__name__, "stable-diffusion-v1"),
            "resolution": settings.resolution,
            "phrase": f"embedding:{settings.concept_name}" + (f" {settings.super_category}" if settings.with_category else ""),
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
        if self.loop.step == 0 or (self.checked.resumed and self.checked.resumed["loop"]["step"] == self.loop.step):
            return
        self.save_state()
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
        parts = (self.encoder, self.denoiser, images, self.embedding)
        if settings.method == TEXTUAL_INVERSION:
            return TextualInversion(TextualInversionConfig(settings.batch_size), *parts)
        if settings.method == ATTNDREAMBOOTH:
            category_tokens = len(self.checked.rows.words(settings.super_category)[0])
            config = AttnDreamBoothConfig(
                settings.batch_size, settings.alignment_mean, settings.alignment_variance, category_tokens
            )
            return AttnDreamBooth(config, *parts)
        formulation = "reference_code" if settings.method == CORE_REFERENCE else "paper"
        config = ContextRegularizationConfig(
            settings.batch_size, formulation, settings.rescale_from, settings.rescale_to, settings.regularization_batch
        )
        return ContextRegularization(config, *parts, self.checked.prompts)

    def _weighting(self) -> FixedWeights:
        settings = self.checked.settings
        weights = {"context_embedding": settings.embedding_weight, "context_attention": settings.attention_weight}
        if settings.weighting == BALANCED:
            shares = {"context_embedding": settings.embedding_share, "context_attention": settings.attention_share}
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


ARCHITECTURES = {"BaseModel": "stable-diffusion-v1", "SDXL": "stable-diffusion-xl-v1-base"}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
