"""What "U-Net Identity Finetune" was given, checked before any long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...core_ops.prompts.token_rows import TokenRow
from ...core_ops.terms import Alignment
from ...core_ops.training.training_data import CaptionedPictures
from ...core_ops.weights.low_rank import LowRank
from ..concept import Concept
from ..files import concept_files, file_metadata, foreign_files, safe_files, unet_files
from ..host.models.denoiser import added_to, own_side, unet_of, validate_model
from ..host.models.host_models import HostModels
from ..host.models.lora_loading import unet_pairs
from ..host.models.text_encoder import validate_clip
from ..host.models.timestep_lora import RANK_ENTRY
from ..host.models.unet_weights import file_forgets_sampling, rounds_weights
from ..prompt_concepts import PromptConcepts
from ..settings import NO_FILE
from ..training import advice
from ..training.concept_preview import PreviewPlan
from ..training.kept_trainings import Beginning, Kept, MadeOf, digest, together
from ..training.optimizers import validate_optimizer
from ..training.training_inputs import advised_on, named_digest, picture_digests, repeats_digest, validate_training
from .finetune_settings import FinetuneSettings
from .trained_concepts import (
    GivenConcept,
    GivenPictures,
    TrainedConcept,
    advised_on_concepts,
    all_alignment,
    all_class_pictures,
    all_pictures,
    all_previews,
    check_concepts,
    group_of,
    told_of_all,
)

STATE_SUFFIX = ".unet"
"""A U-Net's state lies beside an embedding's of the same name."""


@dataclass(frozen=True)
class CheckedFinetune:
    """Everything that can be refused has been looked at: what is left is work, and room for it.

    concepts: that are trained together, most often one. files: that it writes; U-Net or LoRA first. pictures: that are
    trained. held_out: those that are not, or None. notes: lines for the user. start: a LoRA that is trained further, by
    the U-Net's weights. told: of the pictures, for the card. class_prompts: as `FinetuningProblem` takes them.
    """

    settings: FinetuneSettings
    concepts: PromptConcepts
    files: FinetuneFiles
    pictures: CaptionedPictures
    held_out: CaptionedPictures | None
    class_pictures: CaptionedPictures | None
    alignment: Alignment | None
    class_prompts: Sequence[tuple[TokenRow, TokenRow]]
    preview: PreviewPlan
    made_of: MadeOf
    beginning: Beginning
    notes: Sequence[str]
    told: str
    start: Mapping[str, LowRank] | None = None

    @property
    def overwrites(self) -> bool:
        """Also its own files, where it stopped before it had written all."""
        return self.settings.overwrite or self.beginning.replaces


@dataclass(frozen=True)
class FinetuneFiles:
    """What a finetune writes, None for what it does not. embeddings: of each concept, where they are trained along."""

    unet: Path | None
    lora: Path | None
    embeddings: Sequence[Path] = ()

    @classmethod
    def of(cls, settings: FinetuneSettings, others: Sequence[Concept] = ()) -> FinetuneFiles:
        """Raises ValueError for a name that cannot be used, and a folder that cannot be written to."""
        name = settings.name
        if settings.saves_unet:
            unet_files.validate_new_file("diffusion_models", name, overwrite=True)
        if settings.saves_lora:
            unet_files.validate_new_file("loras", name, overwrite=True)
        embeddings = [name, *(name_of_another(name, other) for other in others)] if settings.train_embedding else []
        for each in embeddings:
            concept_files.validate_new_embedding(each, overwrite=True, parameter="name")
        return cls(
            unet_files.new_file_path("diffusion_models", name) if settings.saves_unet else None,
            unet_files.new_file_path("loras", name) if settings.saves_lora else None,
            [concept_files.embedding_path(each) for each in embeddings],
        )

    @property
    def written(self) -> list[Path]:
        return [path for path in (self.unet, self.lora, *self.embeddings) if path is not None]


def name_of_another(name: str, concept: Concept) -> str:
    """Of the refined embedding of another concept than the first, which has the training's own name."""
    return f"{name}-{concept.name}"


def check_settings(settings: FinetuneSettings) -> None:
    """Raises ValueError for what the widgets alone show, before models and pictures are there."""
    safe_files.validate_name("name", settings.name)
    validate_training(settings)
    validate_optimizer(settings.optimizer)


def check_finetune(
    host: HostModels,
    concept: Concept,
    given: GivenPictures,
    settings: FinetuneSettings,
    also: Sequence[GivenConcept] = (),
) -> CheckedFinetune:
    """Raises ValueError for everything that would make the run fail later; also: more concepts, after the first."""
    files = FinetuneFiles.of(settings, [other for other, _ in also])
    validate_model(host.model)
    validate_clip(host.clip, host.model)
    settings = replace(settings, resolution=settings.resolution or own_side(host.model))
    validate_optimizer(settings.optimizer)
    settings.unet_plan(host.model)  # raises for what the model or its device cannot
    concepts = check_concepts(host, [(concept, given), *also], settings)
    start, on_start = starting_lora(host, settings)
    made_of = what_decides(host, settings, concepts, start=start)
    trained, held_out, notes = all_pictures(concepts, settings)
    kept = Kept("name", settings.name, "a finetune", files.written, settings.name + STATE_SUFFIX)
    beginning = kept.beginning(settings, made_of)
    replaced = advice.on_replaced(beginning.said, settings.name)
    more = on_start, *advised_on_concepts(concepts, settings), *_on_whole_unet(host, settings), replaced
    images = [picture for each in concepts for picture in each.given.images]
    told = told_of_all(concepts)
    return CheckedFinetune(
        settings=settings,
        concepts=group_of(concepts),
        files=files,
        pictures=trained,
        held_out=held_out,
        class_pictures=all_class_pictures(concepts),
        alignment=all_alignment(settings, concepts),
        class_prompts=[each.class_prompts for each in concepts if each.class_prompts],
        preview=all_previews(host, concepts, settings),
        start=start,
        made_of=made_of,
        beginning=beginning,
        told=told,
        notes=[*([told] if also else []), *notes, *advised_on(settings, host, images, *more)],
    )


def what_decides(
    host: HostModels,
    settings: FinetuneSettings,
    concepts: Sequence[TrainedConcept],
    start: Mapping[str, LowRank] | None,
) -> MadeOf:
    """All that decides what is learned."""
    further = (
        {} if start is None else {"file_to_start_from": digest(*(t for p in start.values() for t in (p.up, p.down)))}
    )
    each_digests: list[dict[str, str]] = []
    for each in concepts:
        own, class_pictures = each.concept, each.class_pictures
        class_captions = class_pictures.templates[:1] if class_pictures else ()
        pictures, captions = picture_digests(each.captioned, settings.hold_out, *class_captions)
        vectors = [v for _, v in sorted(own.vectors.items())]
        each_digests.append(
            {
                "pictures": pictures,
                "class_images": picture_digests(class_pictures, False)[0] if class_pictures else digest(None),
                "captions": captions,
                "concept": digest(own.super_category, own.caption("{}"), *vectors),
                **repeats_digest(each.captioned),
                **named_digest(each.captioned.captions),
            }
        )
    unread = ["name", "preset", "save", "start_from", *settings.unread, *_unread_without(concepts)]
    return MadeOf.given(host, settings, unread=unread, **together(each_digests), **further)


def _unread_without(concepts: Sequence[TrainedConcept]) -> list[str]:
    """Settings that do nothing without masks or class images, of whichever concept; class_caption: of the first."""
    read = {
        "use_masks": any(each.given.masks is not None for each in concepts),
        "prior_weight": any(each.class_pictures for each in concepts),
        "class_caption": concepts[0].class_pictures,
    }
    return [name for name, by in read.items() if not by]


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
    tensors, header = foreign_files.read("start_from", unet_files.lora_path(settings.start_from))
    card = file_metadata.card_in(header.metadata)
    bundled = card.get("lora")
    if RANK_ENTRY in card or (isinstance(bundled, dict) and RANK_ENTRY in bundled):
        raise ValueError("start_from: it is a T-LoRA, whose ranks go with the noise; choose a LoRA.")
    pairs = unet_pairs(host.model, tensors, "start_from")
    ranks = sorted({pair.rank for pair in pairs.values()})
    if len(ranks) > 1:
        raise ValueError(
            f"start_from: its layers have ranks {', '.join(map(str, ranks))}, and a training has one; choose another "
            "file."
        )
    if ranks != [settings.rank]:
        raise ValueError(f"rank: the LoRA in start_from has {ranks[0]}; set rank to that.")
    choice = settings.unet_plan(host.model).trained
    if choice and (others := pairs.keys() - set(choice.names(unet_of(host.model)))):
        raise ValueError(
            f"scope: the LoRA in start_from also changes {min(others)}; choose a larger part of the U-Net."
        )
    return pairs, advice.on_text_encoder(list(tensors))
