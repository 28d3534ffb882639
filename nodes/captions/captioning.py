"""From pictures and texts to captions: where each text comes from, what was repaired, and what the user is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...core_ops.pictures import rgb, validate_pictures
from ..files import caption_files
from ..host.models.text_generation import describe, validate_reader
from ..host.prompts.prompt_rows import PromptRows
from ..host.run_control import RunProgress
from .caption_settings import NOWHERE, CaptionSettings
from .wording import CLASS_ONLY, CaptionForm, Fits, RepairedCaption, repair, validate_opening, within_words

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
    pictures = [picture for batch in images for picture in batch.float()]
    if not pictures:
        raise ValueError("images: none came; connect at least one picture.")
    validate_pictures("images", pictures)
    pictures = [rgb(picture) for picture in pictures]
    form = settings.caption_form()
    sources, texts = _sources(settings, captions, reader, len(pictures))
    if MODEL in sources:
        validate_reader(reader)
    places = []
    if settings.save_to != NOWHERE:
        places = caption_files.places(settings.save_to, settings.save_folder, pictures, settings.overwrite)
    fits = within_words if clip is None else _fits_one_row(clip, form, settings.vectors)
    validate_opening(form, fits)
    return CheckedCaptions(settings, pictures, sources, texts, reader, fits, places)


def make_captions(checked: CheckedCaptions, node_id: str | None) -> list[RepairedCaption]:
    """One caption per picture, written beside them if asked; cancel works between any two pictures."""
    settings, form = checked.settings, checked.settings.caption_form()
    progress = RunProgress(len(checked.pictures), node_id)
    made: list[RepairedCaption] = []
    for picture, source, text in zip(checked.pictures, checked.sources, checked.texts, strict=True):
        if source == MODEL:
            text = describe(checked.reader, settings.question(), picture, settings.generation())
        made.append(repair(text, form, checked.fits))
        progress.update(len(made), made[-1].text)
    if checked.places:
        caption_files.save(checked.places, checked.pictures, [caption.text for caption in made])
    report = report_of(checked, made)
    progress.say("\n".join(caption.text for caption in made) + f"\n\n{report}")
    return made


def report_of(checked: CheckedCaptions, made: Sequence[RepairedCaption]) -> str:
    """Of each picture where its text came from and what was repaired; then what to look at, and what was saved."""
    lines = [
        f"image {number} ({source}): {'; '.join(caption.repairs) or 'as it came'}"
        for number, (source, caption) in enumerate(zip(checked.sources, made, strict=True), start=1)
    ]
    poor = [str(number) for number, caption in enumerate(made, start=1) if not caption.usable]
    if poor and checked.settings.caption_form().case != CLASS_ONLY:
        lines.append(f"Only the class is said of image {', '.join(poor)}: type a line for it in own_captions.")
    if checked.fits is within_words:
        lines.append("Length bound by words; connect clip to measure with the diffusion model's own tokenizer.")
    if checked.places:
        lines.append(f"Saved in {checked.places[0].caption.parent}")
    return "\n".join(lines)


def _sources(
    settings: CaptionSettings, captions: Sequence[str] | None, reader: Any, count: int
) -> tuple[list[str], list[str]]:
    """Of each picture where its text comes from, and the text."""
    if settings.caption_form().case == CLASS_ONLY:
        return [CLASS] * count, [""] * count
    typed, connected = _typed(settings.own_captions, count), _connected(captions, count)
    sources = [TYPED if own else CONNECTED if given else MODEL for own, given in zip(typed, connected, strict=True)]
    if reader is None and MODEL in sources:
        raise ValueError(
            f"own_captions: image {sources.index(MODEL) + 1} of {count} has no text; type one line per image, or "
            "connect captions or a vision_clip."
        )
    return sources, [own or given for own, given in zip(typed, connected, strict=True)]


def _typed(text: str, count: int) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and len(lines) != count:
        raise ValueError(
            f"own_captions: {len(lines)} lines for {count} images; write one line per image, - for one without."
        )
    return [line if line != LEFT_OUT else "" for line in lines] or [""] * count


def _connected(captions: Sequence[str] | None, count: int) -> list[str]:
    """A list with one text per picture, which may be empty, or one text with a line per picture."""
    texts = [text.strip() for text in captions or ()]
    if len(texts) == 1 and count > 1:
        texts = [line.strip() for line in texts[0].splitlines() if line.strip()]
    if texts and len(texts) != count:
        raise ValueError(f"captions: {len(texts)} came for {count} images; connect one text per image.")
    return texts or [""] * count


def _fits_one_row(clip: Any, form: CaptionForm, vectors: int) -> Fits:
    """By the host's own tokenizers, with room for the class after {}, which AttnDreamBooth writes there."""
    rows = PromptRows(clip, form.super_category, vectors)

    def fits(caption: str) -> bool:
        try:
            rows.concept(caption.replace("{}", f"{{}} {form.super_category}"))
        except ValueError:
            return False
        return True

    return fits
