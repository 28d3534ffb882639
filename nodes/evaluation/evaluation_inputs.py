"""What "Personalization Scorecard" was given, checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from ...core_ops.pictures import single_masks, single_pictures, validate_masks
from ...core_ops.quoting import quoted
from ...core_ops.scores import (
    around_concept,
    changes_appearance,
    embedding_names,
    with_category,
    with_other_concepts,
    without_identifier,
)
from ...core_ops.scores.segments import INSIDE
from ..concept import Concept
from ..files import concept_bundles, concept_files
from ..files.safe_files import validate_name
from ..host.models.vision_models import ClipEncoder, DinoEncoder, validate_source
from ..host.prompts.prompt_reading import without_weights
from ..sharing.concept_card import ConceptCard
from .evaluation_settings import ScorecardSettings
from .face_encoder import face_files
from .score_data import Scorecard, from_json


@dataclass(frozen=True)
class PictureSet:
    """Pictures [H, W, C] of any sizes, with a mask [H, W] each or none at all."""

    pictures: Sequence[Tensor]
    masks: Sequence[Tensor] | None


@dataclass(frozen=True)
class ScoredPrompts:
    """The prompt of each generated picture, what CLIP reads of it, and without the identifier; whether it keeps the
    concept's appearance, so that the picture counts in the identity scores. unread: other embeddings that no file says
    a super-category of."""

    prompts: Sequence[str]
    read: Sequence[str]
    without_identifier: Sequence[str]
    keeps_appearance: Sequence[bool]
    unread: Sequence[str] = ()


@dataclass(frozen=True)
class CheckedScorecard:
    """All that a scorecard is made from; what can be refused has been looked at."""

    name: str
    settings: ScorecardSettings
    references: PictureSet
    generated: PictureSet
    prompts: ScoredPrompts
    compared: Sequence[Scorecard]

    @property
    def masked(self) -> bool:
        """Whether both sides have masks, so that CLIP-I and DINO look at foregrounds."""
        return self.references.masks is not None and self.generated.masks is not None

    @property
    def counted(self) -> list[int]:
        """Numbers of the generated pictures that count in the identity scores."""
        return [number for number, keeps in enumerate(self.prompts.keeps_appearance) if keeps]


def picture_set(name: str, images: Sequence[Tensor], masks: Sequence[Tensor] | None) -> PictureSet:
    """Batches [b, H, W, C], and masks [b, H, W] if any, as single ones. Raises ValueError for what cannot be scored.

    name: of the pictures' input, "references" or "generated"; its masks' is the same in the singular.
    """
    pictures = single_pictures(name, images)
    if masks is None:
        return PictureSet(pictures, None)
    singles = single_masks(masks)
    validate_masks(f"{name.removesuffix('s')}_masks", singles, pictures)
    return PictureSet(pictures, singles)


def prompt_of_each_picture(prompts: Sequence[str], images: Sequence[Tensor]) -> list[str]:
    """One prompt per picture, from one for every picture, for every batch of the list, or for all.

    A single text may hold them, one per line. Raises ValueError when their number does not fit, or one is empty.
    """
    lines = [line for line in prompts[0].splitlines() if line.strip()] if len(prompts) == 1 else prompts
    lines = [" ".join(line.split()) for line in lines]
    batches = [batch.shape[0] for batch in images]
    if not lines:
        raise ValueError("prompts: got none; connect the prompts that the pictures were drawn with.")
    if "" in lines:
        raise ValueError(f"prompts: prompt {lines.index('')} is empty; give what its picture was drawn with.")
    if len(lines) == sum(batches):
        return lines
    if len(lines) == 1:
        return lines * sum(batches)
    if len(lines) == len(batches):
        return [line for line, count in zip(lines, batches, strict=True) for _ in range(count)]
    raise ValueError(
        f"prompts: got {len(lines)} for {sum(batches)} pictures in {len(batches)} batches; "
        "give one per picture, one per batch, or one for all."
    )


def scored_prompts(
    prompts: Sequence[str], settings: ScorecardSettings, super_category: str, own: str = ""
) -> ScoredPrompts:
    """The prompts as the scores read them. own: the concept's name; of several embeddings in a prompt the others are
    other concepts. Raises ValueError for a prompt without a word beside the concept."""
    plain, unread = plain_prompts(prompts, own)
    read = [with_category(text, settings.identifier, super_category) for text in plain]
    bare = [without_identifier(text, settings.identifier) or read[i] for i, text in enumerate(plain)]
    for prompt, text in zip(prompts, bare, strict=True):
        if not text:
            raise ValueError(
                f"prompts: {quoted(prompt)} has no word beside the concept; give super_category, which then stands "
                "for it."
            )
    phrases = settings.appearance_phrases
    return ScoredPrompts(
        prompts=prompts,
        read=read,
        without_identifier=bare,
        keeps_appearance=[
            not changes_appearance(around_concept(text, settings.identifier, super_category), phrases) for text in plain
        ],
        unread=unread,
    )


def plain_prompts(prompts: Sequence[str], own: str = "") -> tuple[list[str], list[str]]:
    """Prompts without weights, with the super-categories of other embeddings in their places; and those of which no
    file says one, which are left out. own: the concept's name; of a prompt without it, the first embedding is it."""
    plain, others = [without_weights(prompt) for prompt in prompts], dict[str, str]()
    for names in map(embedding_names, plain):
        concept = own if own in names else next(iter(names), "")
        others |= {name: _super_category_of(name) for name in names if name != concept and name not in others}
    unread = [name for name, category in others.items() if not category]
    return [with_other_concepts(prompt, others) for prompt in plain], unread


def _super_category_of(embedding: str) -> str:
    for file in concept_files.files_named(PurePosixPath(embedding).name):
        with suppress(ValueError):  # damaged, and so it says nothing
            if said := ConceptCard.read("prompts", concept_bundles.outline_of(file).metadata).super_category:
                return said
    return ""


def check_references(references: PictureSet, generated: PictureSet) -> None:
    """Raises ValueError for masks on the generated side alone, and for a reference without its subject."""
    if references.masks is None:
        if generated.masks is not None:
            raise ValueError(
                "generated_masks: connected without reference_masks; connect both, or only reference_masks."
            )
        return
    for index, mask in enumerate(references.masks):
        if mask.max() < INSIDE:
            raise ValueError(f"reference_masks: mask {index} is empty; paint the subject white.")


def compared_scorecards(texts: Sequence[str] | None, settings: ScorecardSettings) -> list[Scorecard]:
    """The other scorecards, each once. Raises ValueError when one was made with other models."""
    cards = [card for text in texts or () for card in from_json(text)]
    for card in cards:
        for name in ("clip_model", "dino_model", "style_model", "face_model"):
            # Style and face are optional, and unknown to scorecards of earlier versions.
            theirs, ours = (Path(model).name for model in (card.facts.get(name, ""), getattr(settings, name)))
            if theirs != ours and (name in ("clip_model", "dino_model") or (theirs and ours)):
                raise ValueError(
                    f"compare_with: {quoted(card.name)} was scored with {name} {quoted(theirs)}, this one with "
                    f"{quoted(ours)}; scores of different models cannot be compared; use the same for both."
                )
    return [card for index, card in enumerate(cards) if card not in cards[:index]]


def check_settings(settings: ScorecardSettings) -> None:
    """Raises ValueError for what the widgets alone show, before there is any picture."""
    if settings.scorecard_name:
        validate_name("scorecard_name", settings.scorecard_name)
    if settings.face:
        face_files(settings.face)
    if settings.allow_downloads:  # what can be fetched is known when it is
        return
    sources = ((settings.clip, ClipEncoder), (settings.dino, DinoEncoder), (settings.style, ClipEncoder))
    for source, encoder in sources:
        if source is not None:
            validate_source(source, encoder.model_types)


def check_inputs(
    references: PictureSet,
    generated: PictureSet,
    prompts: Sequence[str],
    concept: Concept | None,
    compared: Sequence[Scorecard],
    settings: ScorecardSettings,
) -> CheckedScorecard:
    """Raises ValueError for what cannot be scored, as the functions above do."""
    check_references(references, generated)
    super_category = settings.super_category or (concept.super_category if concept else "")
    name = settings.scorecard_name or (concept.name if concept else "scorecard")
    validate_name("scorecard_name", name)
    return CheckedScorecard(
        name=name,
        settings=settings,
        references=references,
        generated=generated,
        prompts=scored_prompts(prompts, settings, super_category, concept.name if concept else ""),
        compared=compared,
    )
