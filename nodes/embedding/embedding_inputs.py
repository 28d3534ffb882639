"""What "CoRe Train Embedding" was given, checked before any long work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from ...core_ops.pictures import prepare_pictures
from ...core_ops.prompts.token_rows import AlignedPair
from ...core_ops.quoting import quoted
from ...core_ops.training.training_data import CaptionedPictures
from ..concept import Concept
from ..files import concept_files, safe_files
from ..host.models.denoiser import own_side, validate_model
from ..host.models.host_models import HostModels, base_model_fingerprint
from ..host.models.text_encoder import validate_clip
from ..host.prompts.prompt_rows import PromptRows, naming, validate_words
from ..training.training_inputs import captioned_pictures, fingerprint, resumed_state, validate_training
from .embedding_settings import EmbeddingSettings


@dataclass(frozen=True)
class CheckedInputs:
    """Everything that can be refused has been looked at: what is left is work.

    concept: as it will be written, its vectors yet to be learned. prompts: that v is regularized in, where the method
    does so.
    """

    settings: EmbeddingSettings
    concept: Concept
    pictures: CaptionedPictures
    prompts: Sequence[AlignedPair]
    rows: PromptRows
    fingerprint: str
    resumed: dict[str, Any] | None


def check_settings(settings: EmbeddingSettings) -> None:
    """Raises ValueError for what the widgets alone show, before models and pictures are there."""
    safe_files.validate_name("concept_name", settings.concept_name)
    safe_files.validate_writable("concept_name", concept_files.embedding_path(settings.concept_name).parent)
    validate_training(settings)
    settings.prompt_templates()
    for name in ("super_category", "initial_words"):
        validate_words(name, getattr(settings, name))


def check_inputs(
    host: HostModels,
    images: Sequence[Tensor],
    masks: Sequence[Tensor] | None,
    captions: Sequence[str] | None,
    settings: EmbeddingSettings,
) -> CheckedInputs:
    """Raises ValueError for everything that would make the run fail later."""
    name = settings.concept_name
    concept_files.validate_new_embedding(name, settings.overwrite)
    validate_model(host.model)
    validate_clip(host.clip, host.model)
    settings = replace(settings, resolution=settings.resolution or own_side(host.model))
    settings.unet_plan(host.model)  # raises for a precision that the device has not
    pictures = prepare_pictures(
        images, masks if settings.use_masks else None, side=settings.resolution, fit=settings.fit
    )
    rows = PromptRows(host.clip, settings.super_category, settings.vectors)
    validate_words("initial_words", settings.initial_words)
    with naming("initial_words"):
        if settings.initial_words and not rows.words(settings.initial_words)[0]:
            raise ValueError(
                f"initial_words: {quoted(settings.initial_words)} gives no token; use words or leave it empty."
            )
    path, with_category = concept_files.embedding_path(name), settings.chosen_method.writes_category
    concept = Concept(name, settings.super_category, vectors={}, path=path, with_category=with_category)
    captioned = captioned_pictures(
        pictures,
        captions,
        default=settings.caption_template,
        row_of=lambda template: rows.concept(concept.caption(template)),
    )
    templates = settings.prompt_templates()
    with naming("own_prompts"):
        prompts = [rows.pair(template) for template in templates]
    expected = fingerprint(
        {key: value for key, value in asdict(settings).items() if key != "concept_name"},
        [base_model_fingerprint(host.model), *captioned.templates, *templates],
        (pictures.pixels, pictures.masks),
    )
    resumed = resumed_state(settings.resume_from, settings.resume_from, expected=expected, steps=settings.steps)
    return CheckedInputs(
        settings, concept, pictures=captioned, prompts=prompts, rows=rows, fingerprint=expected, resumed=resumed
    )
