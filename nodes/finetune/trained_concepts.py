"""The concepts that share one finetune: each checked by itself, then one training set of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...core_ops.pictures import prepare_pictures
from ...core_ops.prompts.prompt_templates import PLACES
from ...core_ops.prompts.token_rows import TokenRow
from ...core_ops.quoting import quoted
from ...core_ops.terms import Alignment
from ...core_ops.training.training_data import CaptionedPictures, joined
from ..concept import Concept, PhotoFacts
from ..host.models.host_models import HostModels
from ..host.prompts.prompt_rows import PromptError, PromptRows, TemplateRows, naming
from ..prompt_concepts import PromptConcepts
from ..training import advice
from ..training.concept_preview import PreviewPlan
from ..training.training_inputs import captioned_pictures, part_held_out, told_of
from .finetune_settings import FinetuneSettings

TOGETHER = {2: "a photo of a {} and a {2}", 3: "a photo of a {}, a {2} and a {3}"}
"""What a preview shows last, by the number of concepts."""


@dataclass(frozen=True)
class GivenPictures:
    """Of one concept: lists as a node receives them."""

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


GivenConcept = tuple[Concept, GivenPictures]


@dataclass(frozen=True)
class TrainedConcept:
    """rows: prompts with its vectors, where these lie among those of all. captioned: all its pictures. on_captions:
    what to tell the user of them. class_prompts: as `FinetuningProblem` takes them."""

    concept: Concept
    given: GivenPictures
    rows: PromptRows
    captioned: CaptionedPictures
    on_captions: str | None
    class_pictures: CaptionedPictures | None
    class_prompts: tuple[TokenRow, TokenRow] | None


def check_concepts(host: HostModels, given: Sequence[GivenConcept], settings: FinetuneSettings) -> list[TrainedConcept]:
    """Raises ValueError for what cannot be trained; what is said of another than the first begins with "also"."""
    _validate_together([concept for concept, _ in given])
    checked: list[TrainedConcept] = []
    for concept, pictures in given:
        first = sum(each.concept.length for each in checked)
        try:
            checked.append(_checked(host, concept, pictures, settings, first))
        except ValueError as error:
            if not checked:
                raise
            raise ValueError(f"also: {quoted(concept.name)}: {error}") from error
    return checked


def _validate_together(concepts: Sequence[Concept]) -> None:
    if len(concepts) > len(PLACES):
        raise ValueError(
            f"also: got {len(concepts)} concepts, and one training takes {len(PLACES)}; take an Also Train away, and "
            "train its concept in a LoRA of its own."
        )
    names = [concept.name.lower() for concept in concepts]
    if twice := [concept.name for concept, name in zip(concepts, names, strict=True) if names.count(name) > 1]:
        raise ValueError(
            f"also: {quoted(twice[-1])} is connected twice; connect another concept to Also Train, or give it "
            "another name."
        )


def _checked(
    host: HostModels, concept: Concept, given: GivenPictures, settings: FinetuneSettings, first: int
) -> TrainedConcept:
    """first: where its vectors lie among those of all."""
    concept.validate_for(host.clip)
    given.validate_for(settings)
    masks = given.masks if settings.use_masks else None
    pictures = prepare_pictures(given.images, masks, side=settings.resolution, fit=settings.fit)
    rows = PromptRows(host.clip, concept.super_category, concept.length, first)
    captioned, on_captions = captioned_pictures(pictures, given.captions, settings, concept, rows, given.photos)
    class_caption = "" if first else settings.class_caption
    return TrainedConcept(
        concept,
        given,
        rows,
        captioned=captioned,
        on_captions=on_captions,
        class_pictures=_class_pictures(given.class_images, rows, concept, settings, class_caption),
        class_prompts=_class_prompts(settings, concept, rows=rows),
    )


def _class_pictures(
    images: Sequence[Tensor] | None, rows: PromptRows, concept: Concept, settings: FinetuneSettings, class_caption: str
) -> CaptionedPictures | None:
    """Pictures of the super-category for prior preservation (DreamBooth), all with one caption."""
    if images is None:
        return None
    pictures = prepare_pictures(images, None, side=settings.resolution, fit=settings.fit, name="class_images")
    with naming("class_caption"):
        text = class_caption or f"a photo of a {concept.super_category}"
        caption = rows.text(text)
    count = len(pictures.pixels)
    return CaptionedPictures(pictures, [caption], caption_of_picture=[0] * count, templates=[text] * count)


def _class_prompts(settings: FinetuneSettings, concept: Concept, rows: PromptRows) -> tuple[TokenRow, TokenRow] | None:
    """ClassDiffusion compares the concept before its super-category with the super-category alone."""
    if not settings.preserves_semantics:
        return None
    template, kind = "a photo of a {}", concept.super_category
    with naming("super_category"):
        return rows.concept(f"{template} {kind}"), rows.text(template.format(kind))


def all_alignment(settings: FinetuneSettings, concepts: Sequence[TrainedConcept]) -> Alignment | None:
    """AttnDreamBooth's regularizer compares each concept with the super-category right after it in every caption."""
    if not settings.aligned:
        return None
    categories = [each.rows.words(each.concept.super_category)[0] for each in concepts]
    for each, category in zip(concepts, categories, strict=True):
        for row in each.captioned.captions:
            after = next(iter(row.tokens.values()))[row.span.stop : row.span.stop + len(category)]
            if list(after) != category:
                raise ValueError(
                    f"alignment_mean: the regularizer needs the super-category {quoted(each.concept.super_category)} "
                    "right after the concept in every caption. Train the concept with 'AttnDreamBooth stage 1', write "
                    f"'{{}} {each.concept.super_category}' in caption_template and captions, or set both alignment "
                    "weights to 0."
                )
    lengths = {each.rows.first: len(category) for each, category in zip(concepts, categories, strict=True)}
    return Alignment(settings.alignment_mean, settings.alignment_variance, lengths)


def all_pictures(
    concepts: Sequence[TrainedConcept], settings: FinetuneSettings
) -> tuple[CaptionedPictures, CaptionedPictures | None, list[str]]:
    """The pictures that are trained, those held out (one of each concept that has enough), and what to tell of them."""
    trained, held_out, notes = [], [], []
    for each in concepts:
        own, out, said = part_held_out(each.captioned, settings.hold_out)
        trained.append(own)
        held_out.append(out or own.parted(len(own.templates))[1])
        notes += said if len(concepts) == 1 else [f"{each.concept.name}: {line}" for line in said]
    nothing = concepts[0].rows.text("")
    together = joined(trained).with_dropout(settings.caption_dropout, nothing)
    measured = joined(held_out).with_dropout(settings.caption_dropout, nothing)
    return together, measured if measured.templates else None, notes


def all_class_pictures(concepts: Sequence[TrainedConcept]) -> CaptionedPictures | None:
    """Of those concepts that have some."""
    found = [each.class_pictures for each in concepts if each.class_pictures]
    return joined(found) if found else None


def all_previews(host: HostModels, concepts: Sequence[TrainedConcept], settings: FinetuneSettings) -> PreviewPlan:
    """The prompts with each concept, and one with all of them where it has room for their vectors."""
    plans = [PreviewPlan.of(settings, each.concept, each.rows, each.captioned.pictures) for each in concepts]
    if len(plans) == 1:
        return plans[0]
    group = group_of(concepts)
    try:
        together = [TemplateRows(host.clip, group.named()).row(TOGETHER[len(plans)], group.fillings)]
    except PromptError:
        together = []
    return plans[0].with_others(plans[1:], together)


def group_of(concepts: Sequence[TrainedConcept]) -> PromptConcepts:
    return PromptConcepts([each.concept for each in concepts], [True] * len(concepts))


def told_of_all(concepts: Sequence[TrainedConcept]) -> str:
    """Of the pictures, for the card, such as "my-dog: 5 pictures; my-cat: 3 pictures"."""
    told = [told_of(each.captioned, each.given.photos) for each in concepts]
    if len(told) == 1:
        return told[0]
    return "; ".join(f"{each.concept.name}: {text}" for each, text in zip(concepts, told, strict=True))


def advised_on_concepts(concepts: Sequence[TrainedConcept], settings: FinetuneSettings) -> tuple[str | None, ...]:
    """What is legal and unwise in the concepts' inputs."""
    with_class_images = {each.concept.super_category for each in concepts if each.class_pictures}
    without = [each.concept.super_category for each in concepts if each.concept.super_category not in with_class_images]
    return (
        *(each.on_captions for each in concepts),
        *(
            note
            for each in concepts
            for note in advice.on_masks(each.given.masks if settings.use_masks else None, each.given.images)
        ),
        advice.on_shared_steps(len(concepts), settings.steps, settings.published_steps),
        advice.on_class_images(without if with_class_images else ()),
    )
