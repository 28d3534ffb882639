"""What "CoRe Train Embedding" was given, checked before any long work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ..core_ops.image_preparation import Pictures, prepare_pictures
from ..core_ops.prompt_templates import validate_template
from ..core_ops.token_rows import AlignedPair, TokenRow
from .embedding_settings import EmbeddingSettings
from .host import concept_files
from .host.denoiser import validate_model
from .host.model_identity import base_model_fingerprint
from .host.precision import dtype_for
from .host.prompt_rows import PromptRows
from .host.text_encoder import validate_clip


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
    dtype_for(settings.precision, host.model.load_device)
    pictures = prepare_pictures(images, masks if settings.use_masks else None, settings.resolution, settings.fit)
    rows = PromptRows(host.clip, settings.super_category, settings.vectors)
    if settings.initial_words and not rows.words(settings.initial_words)[0]:
        raise ValueError(f"initial_words: {settings.initial_words!r} gives no token; use words or leave it empty.")
    templates = caption_templates(captions, pictures.pixels.shape[0], settings.caption_template)
    distinct = list(dict.fromkeys(templates))
    regularization = settings.regularization_templates()
    base_model = base_model_fingerprint(host.model)
    fingerprint = _fingerprint(settings, pictures, [base_model, *templates, *regularization])
    return CheckedInputs(
        settings=settings,
        pictures=pictures,
        captions=[rows.concept(settings.caption(template)) for template in distinct],
        caption_of_picture=[distinct.index(template) for template in templates],
        prompts=[rows.pair(template) for template in regularization],
        rows=rows,
        fingerprint=fingerprint,
        resumed=_resumed_state(settings, fingerprint),
    )


def caption_templates(captions: Sequence[str] | None, pictures: int, default: str) -> list[str]:
    """One caption template per picture: a list, a text with one line per picture, or the default for all."""
    lines = [line.strip() for text in captions or () for line in text.splitlines() if line.strip()]
    for template in lines or [default]:
        validate_template("captions" if lines else "caption_template", template)
    if not lines:
        return [default] * pictures
    if len(lines) != pictures:
        raise ValueError(f"captions: {len(lines)} came for {pictures} images; give one line per image, or none at all.")
    return lines


def _fingerprint(settings: EmbeddingSettings, pictures: Pictures, texts: Sequence[str]) -> str:
    """Of all that a resumed run must share with the run it continues."""
    shared = {key: value for key, value in asdict(settings).items() if key not in _FREE_TO_CHANGE}
    digest = hashlib.sha256(json.dumps([shared, *texts], sort_keys=True).encode())
    for tensor in (pictures.pixels, pictures.masks):
        digest.update(b"" if tensor is None else tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


_FREE_TO_CHANGE = (
    "concept_name",
    "steps",
    "overwrite",
    "preview_every",
    "save_every",
    "resume_from",
    "gradient_checkpointing",
)


def _resumed_state(settings: EmbeddingSettings, fingerprint: str) -> dict[str, Any] | None:
    if not settings.resume_from:
        return None
    state = concept_files.load_state(settings.resume_from)
    if state["fingerprint"] != fingerprint:
        raise ValueError(
            f"resume_from: {settings.resume_from!r} was saved with another model, other settings, pictures or "
            "captions; use the same (name, steps, preview, saving may change), or leave resume_from empty to start."
        )
    done = state["loop"]["step"]
    if done >= settings.steps:
        raise ValueError(f"resume_from: {settings.resume_from!r} has {done} steps done already; set steps above that.")
    return state
