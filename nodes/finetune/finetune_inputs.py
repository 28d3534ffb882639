"""What "U-Net Identity Finetune" was given, checked before any long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ...core_ops.pictures import prepare_pictures
from ...core_ops.prompts.token_rows import TokenRow
from ...core_ops.quoting import quoted
from ...core_ops.terms import Alignment
from ...core_ops.training.training_data import CaptionedPictures
from ...core_ops.weights.low_rank import LowRank
from ..concept import Concept, PhotoFacts
from ..files import concept_files, foreign_files, safe_files, unet_files
from ..host.models.denoiser import added_to, own_side, unet_of, validate_model
from ..host.models.host_models import HostModels
from ..host.models.lora_loading import unet_pairs
from ..host.models.text_encoder import validate_clip
from ..host.models.unet_weights import file_forgets_sampling, rounds_weights
from ..host.prompts.prompt_rows import PromptRows, naming
from ..settings import NO_FILE
from ..training import advice
from ..training.concept_preview import PreviewPlan
from ..training.kept_trainings import Beginning, Kept, MadeOf, digest, picture_digests, repeats_digest
from ..training.optimizers import validate_optimizer
from ..training.training_inputs import advised_on, captioned_pictures, part_held_out, told_of, validate_training
from .finetune_settings import FinetuneSettings

STATE_SUFFIX = ".unet"
"""A U-Net's state lies beside an embedding's of the same name."""


@dataclass(frozen=True)
class GivenPictures:
    """Lists as a node receives them."""

    images: Sequence[Tensor]
    masks: Sequence[Tensor] | None = None
    captions: Sequence[str] | None = None
    class_images: Sequence[Tensor] | None = None
    photos: PhotoFacts | None = None

    def validate_for(self, settings: FinetuneSettings) -> None:
        """Raises ValueError where class images and settings do not go together."""
        if settings.fused_backward and self.class_images is not None:
            raise ValueError(
                "fused_backward: class_images make a second backward pass in every step, which it cannot wait for; "
                "disconnect them or switch fused_backward off."
            )


@dataclass(frozen=True)
class CheckedFinetune:
    """Everything that can be refused has been looked at: what is left is work, and room for it.

    files: that it writes; U-Net or LoRA first. pictures: that are trained. held_out: one that is not, or None. notes:
    lines for the user. start: a LoRA that is trained further, by the U-Net's weights. told: of the pictures, for the
    card. class_prompts: as `FinetuningProblem` takes them.
    """

    settings: FinetuneSettings
    concept: Concept
    files: FinetuneFiles
    pictures: CaptionedPictures
    held_out: CaptionedPictures | None
    class_pictures: CaptionedPictures | None
    alignment: Alignment | None
    class_prompts: tuple[TokenRow, TokenRow] | None
    rows: PromptRows
    preview: PreviewPlan
    made_of: MadeOf
    beginning: Beginning
    notes: Sequence[str]
    told: str
    start: Mapping[str, LowRank] | None = None


@dataclass(frozen=True)
class FinetuneFiles:
    """What a finetune writes, None for what it does not."""

    unet: Path | None
    lora: Path | None
    embedding: Path | None

    @classmethod
    def of(cls, settings: FinetuneSettings) -> FinetuneFiles:
        """Raises ValueError for a name that cannot be used, and a folder that cannot be written to."""
        name = settings.name
        if settings.saves_unet:
            unet_files.validate_new_file("diffusion_models", name, overwrite=True)
        if settings.saves_lora:
            unet_files.validate_new_file("loras", name, overwrite=True)
        if settings.train_embedding:
            concept_files.validate_new_embedding(name, overwrite=True, parameter="name")
        return cls(
            unet_files.new_file_path("diffusion_models", name) if settings.saves_unet else None,
            unet_files.new_file_path("loras", name) if settings.saves_lora else None,
            concept_files.embedding_path(name) if settings.train_embedding else None,
        )

    @property
    def written(self) -> list[Path]:
        return [path for path in (self.unet, self.lora, self.embedding) if path is not None]


def check_settings(settings: FinetuneSettings) -> None:
    """Raises ValueError for what the widgets alone show, before models and pictures are there."""
    safe_files.validate_name("name", settings.name)
    validate_training(settings)
    validate_optimizer(settings.optimizer)


def check_finetune(
    host: HostModels, concept: Concept, given: GivenPictures, settings: FinetuneSettings
) -> CheckedFinetune:
    """Raises ValueError for everything that would make the run fail later."""
    files = FinetuneFiles.of(settings)
    validate_model(host.model)
    validate_clip(host.clip, host.model)
    settings = replace(settings, resolution=settings.resolution or own_side(host.model))
    concept.validate_for(host.clip)
    validate_optimizer(settings.optimizer)
    settings.unet_plan(host.model)  # raises for what the model or its device cannot
    given.validate_for(settings)
    masks = given.masks if settings.use_masks else None
    pictures = prepare_pictures(given.images, masks, side=settings.resolution, fit=settings.fit)
    rows = PromptRows(host.clip, concept.super_category, concept.length)
    captioned, on_captions = captioned_pictures(pictures, given.captions, settings, concept, rows, given.photos)
    class_pictures = _class_pictures(given.class_images, rows, concept=concept, settings=settings)
    start, on_start = starting_lora(host, settings)
    made_of = what_decides(host, settings, concept, captioned, class_pictures=class_pictures, start=start)
    captioned = captioned.with_dropout(settings.caption_dropout, rows.text(""))
    trained, held_out, notes = part_held_out(captioned, settings.hold_out)
    kept = Kept("name", settings.name, "a finetune", files.written, settings.name + STATE_SUFFIX)
    beginning = kept.beginning(settings, made_of)
    replaced = advice.on_replaced(beginning.said, settings.name)
    more = on_captions, on_start, *advice.on_masks(masks, given.images), *_on_whole_unet(host, settings), replaced
    return CheckedFinetune(
        settings=settings,
        concept=concept,
        files=files,
        pictures=trained,
        held_out=held_out,
        class_pictures=class_pictures,
        alignment=_alignment(settings, concept, rows=rows, captions=captioned.captions),
        class_prompts=_class_prompts(settings, concept, rows=rows),
        rows=rows,
        preview=PreviewPlan.of(settings, concept, rows, pictures),
        start=start,
        made_of=made_of,
        beginning=beginning,
        told=told_of(captioned, given.photos),
        notes=[*notes, *advised_on(settings, host, given.images, *more)],
    )


def what_decides(
    host: HostModels,
    settings: FinetuneSettings,
    concept: Concept,
    captioned: CaptionedPictures,
    class_pictures: CaptionedPictures | None,
    start: Mapping[str, LowRank] | None,
) -> MadeOf:
    """All that decides what is learned."""
    further = (
        {} if start is None else {"file_to_start_from": digest(*(t for p in start.values() for t in (p.up, p.down)))}
    )
    class_captions = class_pictures.templates[:1] if class_pictures else ()
    pictures, captions = picture_digests(captioned, settings.hold_out, *class_captions)
    return MadeOf.given(
        host,
        settings,
        unread=("name", "preset", "save", "start_from"),
        pictures=pictures,
        class_images=picture_digests(class_pictures, False)[0] if class_pictures else digest(None),
        captions=captions,
        concept=digest(concept.super_category, concept.caption("{}"), *(v for _, v in sorted(concept.vectors.items()))),
        **further,
        **repeats_digest(captioned),
    )


def _on_whole_unet(host: HostModels, settings: FinetuneSettings) -> tuple[str | None, ...]:
    if not settings.saves_unet:
        return ()
    model = host.model
    return advice.on_whole_unet(file_forgets_sampling(model), rounds_weights(model), bool(added_to(model)))


def starting_lora(host: HostModels, settings: FinetuneSettings) -> tuple[Mapping[str, LowRank] | None, str | None]:
    """The LoRA that is trained further, if there is one, and what to tell the user of it.

    Raises ValueError where it does not fit model and settings.
    """
    if settings.start_from == NO_FILE:
        return None, None
    tensors, _ = foreign_files.read("start_from", unet_files.lora_path(settings.start_from))
    pairs = unet_pairs(host.model, tensors, "start_from")
    ranks = {pair.rank for pair in pairs.values()}
    if ranks != {settings.rank}:
        raise ValueError(f"rank: the LoRA in start_from has {', '.join(map(str, sorted(ranks)))}; set rank to that.")
    choice = settings.unet_plan(host.model).trained
    if choice and (others := pairs.keys() - set(choice.names(unet_of(host.model)))):
        raise ValueError(
            f"scope: the LoRA in start_from also changes {min(others)}; choose a larger part of the U-Net."
        )
    return pairs, advice.on_text_encoder(list(tensors))


def _class_pictures(
    images: Sequence[Tensor] | None, rows: PromptRows, concept: Concept, settings: FinetuneSettings
) -> CaptionedPictures | None:
    """Pictures of the super-category for prior preservation (DreamBooth), all with one caption."""
    if images is None:
        return None
    pictures = prepare_pictures(images, None, side=settings.resolution, fit=settings.fit, name="class_images")
    with naming("class_caption"):
        text = settings.class_caption or f"a photo of a {concept.super_category}"
        caption = rows.text(text)
    count = len(pictures.pixels)
    return CaptionedPictures(pictures, [caption], caption_of_picture=[0] * count, templates=[text] * count)


def _alignment(
    settings: FinetuneSettings, concept: Concept, rows: PromptRows, captions: Sequence[TokenRow]
) -> Alignment | None:
    """AttnDreamBooth's regularizer compares the concept with the super-category right after it in every caption."""
    if not settings.aligned:
        return None
    category = rows.words(concept.super_category)[0]
    for row in captions:
        after = next(iter(row.tokens.values()))[row.span.stop : row.span.stop + len(category)]
        if list(after) != category:
            raise ValueError(
                f"alignment_mean: the regularizer needs the super-category {quoted(concept.super_category)} right "
                "after the concept in every caption; train the concept with 'AttnDreamBooth stage 1', write "
                f"'{{}} {concept.super_category}' in caption_template and captions, or set both alignment weights to 0."
            )
    return Alignment(settings.alignment_mean, settings.alignment_variance, len(category))


def _class_prompts(settings: FinetuneSettings, concept: Concept, rows: PromptRows) -> tuple[TokenRow, TokenRow] | None:
    """ClassDiffusion compares the concept before its super-category with the super-category alone."""
    if not settings.preserves_semantics:
        return None
    template, kind = "a photo of a {}", concept.super_category
    with naming("super_category"):
        return rows.concept(f"{template} {kind}"), rows.text(template.format(kind))
