"""From pictures and texts to captions: where each text comes from, what was repaired, and what the user is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...core_ops.pictures import rgb, single_pictures
from ...core_ops.prompts.concept_words import parse_words, with_place
from ...core_ops.prompts.prompt_templates import template_with_category
from ..files import caption_files
from ..host.models.text_generation import describe, validate_reader
from ..host.prompts.prompt_rows import PromptRows
from ..host.run_control import RunProgress
from .caption_settings import NOWHERE, CaptionSettings
from .wording import CLASS_ONLY, Fits, RepairedCaption, repair, validate_opening, within_words

TYPED, CONNECTED, MODEL, CLASS = "typed", "captions", "model", "class only"
LEFT_OUT = "-"


@dataclass(frozen=True)
class CheckedCaptions:
    """All that can be refused has been looked at. sources and texts: one per picture; a model's text is still empty."""

    settings: CaptionSettings
    pictures: Sequence[Tensor]
    sources: Sequence[str]
    texts: Sequence[str]
    reader: Any
    fits: Fits
    places: Sequence[caption_files.CaptionPlace]


def check_inputs(
    images: Sequence[Tensor], captions: Sequence[str] | None, reader: Any, clip: Any, settings: CaptionSettings
) -> CheckedCaptions:
    """Raises ValueError for what would fail later. Images [B, H, W, C] of any sizes become pictures [3, H, W]."""
    pictures = [rgb(picture) for picture in single_pictures("images", images)]
    form = settings.caption_form()
    texts = given_texts(settings, captions, len(pictures))
    sources = [source for source, _ in texts]
    if MODEL in sources:
        if reader is None:
            raise ValueError(
                f"own_captions: picture {sources.index(MODEL) + 1} of {len(pictures)} has no text; type one line per "
                "picture, or connect captions or a vision_clip."
            )
        validate_reader(reader)
    places: Sequence[caption_files.CaptionPlace] = ()
    if settings.save_to != NOWHERE:
        places = caption_files.places(
            root=settings.save_to, name=settings.save_folder, pictures=pictures, overwrite=settings.overwrite
        )
    fits = within_words if clip is None else _fits_one_row(clip, form.super_category, settings.vectors)
    validate_opening(form, fits)
    return CheckedCaptions(
        settings=settings,
        pictures=pictures,
        sources=sources,
        texts=[text for _, text in texts],
        reader=reader,
        fits=fits,
        places=places,
    )


def given_texts(settings: CaptionSettings, captions: Sequence[str] | None, count: int) -> list[tuple[str, str]]:
    """Where the text of each of `count` pictures comes from, and the text; a model's is still empty.

    captions: one text per picture, which may be empty, or one text with a line per picture.
    """
    if settings.caption_form().case == CLASS_ONLY:
        return [(CLASS, "")] * count
    typed = [line.strip() for line in settings.own_captions.splitlines() if line.strip()]
    if typed and len(typed) != count:
        raise ValueError(
            f"own_captions: {len(typed)} lines for {count} pictures; write one line per picture, - for one without."
        )
    connected = [text.strip() for text in captions or ()]
    if len(connected) == 1 and count > 1:
        connected = [line.strip() for line in connected[0].splitlines() if line.strip()]
    if connected and len(connected) != count:
        raise ValueError(f"captions: got {len(connected)} for {count} pictures; connect one text per picture.")
    words = parse_words(settings.concept_words)
    pairs = zip(typed or [LEFT_OUT] * count, connected or [""] * count, strict=True)
    chosen = [(TYPED, own) if own != LEFT_OUT else (CONNECTED, given) if given else (MODEL, "") for own, given in pairs]
    return [(source, with_place(text, words, settings.super_category)[0] if text else "") for source, text in chosen]


def make_captions(checked: CheckedCaptions, node_id: str | None) -> list[RepairedCaption]:
    """One caption per picture, written beside them if asked; cancel works between any two pictures."""
    settings, form = checked.settings, checked.settings.caption_form()
    progress = RunProgress(len(checked.pictures), node_id)
    made: list[RepairedCaption] = []
    for picture, source, text in zip(checked.pictures, checked.sources, checked.texts, strict=True):
        if source == MODEL:
            text = describe(
                clip=checked.reader, question=settings.question(), picture=picture, generation=settings.generation()
            )
        made.append(repair(text, form, checked.fits))
        progress.update(len(made), made[-1].text)
    if checked.places:
        caption_files.save(checked.places, checked.pictures, [caption.text for caption in made])
    report = report_of(checked, made)
    progress.say("\n".join(caption.text for caption in made) + f"\n\n{report}")
    return made


def report_of(checked: CheckedCaptions, made: Sequence[RepairedCaption]) -> str:
    """Where each picture's text came from and what was repaired; then what to look at, and what was saved."""
    lines = [
        f"picture {number} ({source}): {'; '.join(caption.repairs) or 'as it was'}"
        for number, (source, caption) in enumerate(zip(checked.sources, made, strict=True), start=1)
    ]
    poor = [str(number) for number, caption in enumerate(made, start=1) if not caption.usable]
    if poor and checked.settings.caption_form().case != CLASS_ONLY:
        lines.append(f"Only the class is said of picture {', '.join(poor)}: type a line for it in own_captions.")
    if checked.fits is within_words:
        lines.append("Length bound by words; connect clip to measure with the diffusion model's own tokenizer.")
    if checked.places:
        lines.append(f"Saved in {checked.places[0].caption.parent}")
    return "\n".join(lines)


def _fits_one_row(clip: Any, super_category: str, vectors: int) -> Fits:
    """A measure by the host's own tokenizers, with room for the class after {}, which AttnDreamBooth writes there."""
    rows = PromptRows(clip, super_category, vectors)

    def fits(caption: str) -> bool:
        try:
            rows.concept(template_with_category(caption, super_category))
        except ValueError:
            return False
        return True

    return fits
