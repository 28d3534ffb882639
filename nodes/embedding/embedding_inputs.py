"""What "CoRe Train Embedding" was given, checked before any long work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ...core_ops.conditioning import Embedding
from ...core_ops.pictures import prepare_pictures
from ...core_ops.prompts.token_rows import AlignedPair, TokenRow
from ...core_ops.quoting import quoted
from ...core_ops.training.training_data import CaptionedPictures
from ..concept import Concept, PhotoFacts
from ..files import concept_files, safe_files
from ..host.models.denoiser import own_side, validate_model, validate_unpatched_keys
from ..host.models.host_models import HostModels
from ..host.models.text_encoder import validate_clip
from ..host.prompts.prompt_rows import PromptRows, naming, validate_category, validate_words
from ..training import advice
from ..training.concept_preview import PreviewPlan
from ..training.kept_trainings import Beginning, Kept, MadeOf, digest
from ..training.training_inputs import (
    advised_on,
    captioned_pictures,
    named_digest,
    part_held_out,
    picture_digests,
    repeats_digest,
    told_of,
    validate_training,
)
from .embedding_settings import EmbeddingSettings


@dataclass(frozen=True)
class CheckedInputs:
    """Everything that can be refused has been looked at: what is left is work.

    concept: as it will be written, its vectors yet to be learned. pictures: that are trained. held_out: one that is
    not, or None. prompts: that v is regularized in, where the method does so. notes: lines for the user. start: vectors
    that v starts from in place of words. told: of the pictures, for the card.
    """

    settings: EmbeddingSettings
    concept: Concept
    pictures: CaptionedPictures
    held_out: CaptionedPictures | None
    prompts: Sequence[AlignedPair]
    rows: PromptRows
    preview: PreviewPlan
    made_of: MadeOf
    beginning: Beginning
    notes: Sequence[str]
    told: str
    start: Embedding | None = None


def check_settings(settings: EmbeddingSettings) -> None:
    """Raises ValueError for what the widgets alone show, before models and pictures are there."""
    concept_files.validate_embedding_name("concept_name", settings.concept_name)
    safe_files.validate_writable("concept_name", concept_files.embedding_path(settings.concept_name).parent)
    validate_training(settings)
    settings.prompt_templates()
    validate_category(settings.super_category)
    validate_words("initial_words", settings.initial_words)


def check_inputs(
    host: HostModels,
    images: Sequence[Tensor],
    masks: Sequence[Tensor] | None,
    captions: Sequence[str] | None,
    settings: EmbeddingSettings,
    start_from: Concept | None = None,
    photos: PhotoFacts | None = None,
) -> CheckedInputs:
    """Raises ValueError for everything that would make the run fail later."""
    name = settings.concept_name
    concept_files.validate_new_embedding(name, overwrite=True)  # what is there may be this very training
    validate_models(host, settings)
    settings = replace(settings, resolution=settings.resolution or own_side(host.model))
    settings.unet_plan(host.model)  # raises for a precision that the device has not
    masks = masks if settings.use_masks else None
    pictures = prepare_pictures(images, masks, side=settings.resolution, fit=settings.fit)
    rows = PromptRows(host.clip, settings.super_category, settings.vectors)
    validate_initial_words(settings.initial_words, rows)
    path = concept_files.embedding_path(name)
    concept = Concept(name, settings.super_category.strip(), {}, path, settings.chosen_method.writes_category)
    captioned, on_captions = captioned_pictures(pictures, captions, settings, concept, rows, photos)
    with naming("own_prompts"):
        prompts = [rows.pair(template) for template in settings.prompt_templates()]
    start = starting_vectors(host, start_from, settings)
    made_of = what_decides(host, settings, captioned, [pair.reference for pair in prompts], start)
    trained, held_out, notes = part_held_out(captioned, settings.hold_out)
    beginning = Kept("concept_name", name, "an embedding", [path], name).beginning(settings, made_of)
    more = advice.on_category(settings.super_category), on_captions, *advice.on_masks(masks, images)
    return CheckedInputs(
        settings,
        concept,
        pictures=trained,
        held_out=held_out,
        prompts=prompts,
        rows=rows,
        preview=PreviewPlan.of(settings, concept, rows, pictures),
        made_of=made_of,
        beginning=beginning,
        start=start,
        told=told_of(captioned, photos),
        notes=[*notes, *advised_on(settings, host, images, *more, advice.on_replaced(beginning.said, name))],
    )


def validate_models(host: HostModels, settings: EmbeddingSettings) -> None:
    """Raises ValueError for models that this method cannot train with."""
    validate_model(host.model)
    validate_clip(host.clip, host.model)
    if settings.chosen_method.reads_keys:
        validate_unpatched_keys(host.model, "method")


def starting_vectors(host: HostModels, start_from: Concept | None, settings: EmbeddingSettings) -> Embedding | None:
    """Of the concept that is trained further, if there is one; raises ValueError where it does not fit the model."""
    if start_from is None:
        return None
    if not settings.chosen_method.starts_further:
        raise ValueError(
            f"start_from: {settings.method} begins with a new network; take start_from off, or choose another method."
        )
    start_from.validate_for(host.clip, "start_from")
    return start_from.vectors


def validate_initial_words(words: str, rows: PromptRows) -> None:
    """Raises ValueError for words that an embedding cannot start from."""
    validate_words("initial_words", words)
    with naming("initial_words"):
        if words and not rows.words(words)[0]:
            raise ValueError(f"initial_words: {quoted(words)} gives no token; use words or leave it empty.")


def what_decides(
    host: HostModels,
    settings: EmbeddingSettings,
    captioned: CaptionedPictures,
    references: Sequence[TokenRow],
    start: Embedding | None,
) -> MadeOf:
    """All that decides what is learned. references: of the practice prompts."""
    pictures, captions = picture_digests(captioned, settings.hold_out, *settings.prompt_templates())
    unread = ("concept_name", *settings.unread)
    further = {} if start is None else {"concept_to_start_from": digest(*(v for _, v in sorted(start.items())))}
    further |= repeats_digest(captioned) | named_digest([*captioned.captions, *references])
    return MadeOf.given(host, settings, unread=unread, pictures=pictures, captions=captions, **further)
