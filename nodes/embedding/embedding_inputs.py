"""What "CoRe Train Embedding" was given, checked before any long work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ...core_ops.pictures import prepare_pictures
from ...core_ops.prompts.token_rows import AlignedPair
from ...core_ops.quoting import quoted
from ..files import concept_files
from ..host.models.denoiser import validate_model
from ..host.models.model_identity import base_model_fingerprint
from ..host.models.precision import dtype_for
from ..host.models.text_encoder import validate_clip
from ..host.prompts.prompt_rows import PromptRows, naming
from ..training.training_images import CaptionedPictures
from ..training.training_inputs import HostModels, caption_templates, fingerprint, resumed_state
from .embedding_settings import EmbeddingSettings


@dataclass(frozen=True)
class CheckedInputs:
    """Everything that can be refused has been looked at: what is left is work."""

    settings: EmbeddingSettings
    captioned: CaptionedPictures
    prompts: Sequence[AlignedPair]
    rows: PromptRows
    fingerprint: str
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
    validate_clip(host.clip, host.model)
    dtype_for(settings.precision, host.model.load_device)  # raises for what the device has not
    pictures = prepare_pictures(images, masks if settings.use_masks else None, settings.resolution, settings.fit)
    rows = PromptRows(host.clip, settings.super_category, settings.vectors)
    _check_initial_words(rows, settings.initial_words)
    templates = caption_templates(captions, pictures.pixels.shape[0], settings.caption_template)
    distinct = list(dict.fromkeys(templates))
    with naming("captions" if captions else "caption_template"):
        caption_rows = [rows.concept(settings.caption(template)) for template in distinct]
    regularization = settings.regularization_templates()
    with naming("own_prompts"):
        prompts = [rows.pair(template) for template in regularization]
    shared = {key: value for key, value in asdict(settings).items() if key != "concept_name"}
    texts = [base_model_fingerprint(host.model), *templates, *regularization]
    expected = fingerprint(shared, texts, (pictures.pixels, pictures.masks))
    return CheckedInputs(
        settings=settings,
        captioned=CaptionedPictures(pictures, caption_rows, [distinct.index(template) for template in templates]),
        prompts=prompts,
        rows=rows,
        fingerprint=expected,
        resumed=resumed_state(settings.resume_from, settings.resume_from, expected, settings.steps),
    )


def _check_initial_words(rows: PromptRows, words: str) -> None:
    with naming("initial_words"):
        tokens = rows.words(words)[0]
    if words and not tokens:
        raise ValueError(f"initial_words: {quoted(words)} gives no token; use words or leave it empty.")
