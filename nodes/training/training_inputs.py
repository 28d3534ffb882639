"""What both training nodes are given: their sockets, and what is checked before any long work."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...core_ops.pictures import Pictures, validate_side
from ...core_ops.prompts.prompt_templates import validate_template
from ...core_ops.prompts.token_rows import TokenRow
from ...core_ops.quoting import quoted
from ...core_ops.training.training_data import CaptionedPictures
from ..concept import Concept, PhotoFacts, PhotosIO
from ..host.models.denoiser import own_side
from ..host.models.host_models import HostModels, base_model_name, checkpoint_files
from ..host.models.module_copy import validate_precision
from ..host.prompts.prompt_rows import PromptRows, naming
from ..settings import showing
from . import advice
from .concept_preview import preview_templates
from .kept_trainings import digest

BYTE_ORDER_MARK = "\ufeff"
"""Some editors begin a text file with it."""
MOST_REPEATS_TOLD = 50


def model_inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="A Stable Diffusion 1.x, 2.x or XL model. It stays as it is."),
        io.Clip.Input("clip", tooltip="The model's text encoder. It stays as it is."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
    ]


def picture_inputs(shown_with_masks: Sequence[str] = ()) -> list[Any]:
    """shown_with_masks: inputs that do nothing without."""
    return [
        io.Image.Input("images", tooltip="About four pictures of the concept, as a batch or a list, of any sizes."),
        io.Mask.Input(
            "masks",
            optional=True,
            tooltip="One mask per picture: white is the concept. ComfyUI's Load Image gives white where a picture is "
            "transparent: put Invert Mask between for cut-outs. Optional.",
            extra_dict=_shown_when_connected(shown_with_masks),
        ),
        io.String.Input(
            "captions",
            optional=True,
            force_input=True,
            tooltip="One caption per picture, each with {} once: a list of texts, or one text with a line for each. "
            "What all pictures share (a sofa, a hat) is learned along, unless captions name it. Optional.",
        ),
        PhotosIO.Input(
            "photos",
            optional=True,
            tooltip="From Concept Images: how often each picture is drawn (folders such as 3_portraits and 1_others), "
            "and what of the folder was skipped, for the concept's card. Optional.",
        ),
    ]


def class_images_input(shown: Sequence[str] = ()) -> io.Input:
    """shown: inputs that do nothing without."""
    return io.Image.Input(
        "class_images",
        optional=True,
        tooltip="For prior preservation: pictures of other things of the super-category, drawn with the same model or "
        "collected; DreamBooth takes about 200. Optional.",
        extra_dict=_shown_when_connected(shown),
    )


def _shown_when_connected(names: Sequence[str]) -> dict[str, Any]:
    return showing({"connected": names} if names else None)


def curve_outputs() -> list[Any]:
    return [
        io.Custom("LOSS_MAP").Output("loss_map", display_name="loss_map", tooltip="For Plot Loss Graph."),
        io.Image.Output("preview", display_name="preview", tooltip="The concept in a few contexts."),
        io.Image.Output("chart", display_name="chart", tooltip="How steady loss and terms went."),
    ]


def resolution_output() -> io.Output:
    """Of a node that knows how large its model's pictures are."""
    return io.Int.Output(
        "resolution", display_name="resolution", tooltip="Side in pixels: for Empty Latent Image's width and height."
    )


def validate_training(settings: Any) -> None:
    """Raises ValueError for what the widgets that both nodes have show, before models and pictures are there."""
    if settings.resolution:
        validate_side(settings.resolution)
    validate_template("caption_template", settings.caption_template)
    preview_templates(settings)
    validate_precision(settings.precision)


def captioned_pictures(
    pictures: Pictures,
    texts: Sequence[str] | None,
    settings: Any,
    concept: Concept,
    rows: PromptRows,
    photos: PhotoFacts | None = None,
) -> tuple[CaptionedPictures, str | None]:
    """Pictures with one caption each, and what to tell the user of them; texts: as they came.

    Raises ValueError for captions, or facts of photos, that do not fit.
    """
    validate_template("caption_template", settings.caption_template)
    given = caption_templates(texts, len(pictures.pixels), settings.caption_template)
    templates = [placed(template, concept.super_category) for template in given]
    for template in templates:
        if "{}" not in template:
            raise ValueError(
                f"captions: {quoted(template)} has no {{}} where the concept goes, and no single "
                f"{quoted(concept.super_category)} in its place; write {{}}, or put Selectively Informative Captions "
                "between, which does."
            )
        validate_template("captions", template)
    distinct = list(dict.fromkeys(templates))
    with naming("captions" if texts else "caption_template"):
        captions = [rows.concept(concept.caption(template)) for template in distinct]
    places = [distinct.index(template) for template in templates]
    note = advice.on_captions(given, templates, concept.super_category)
    repeats = photos.repeats_of(len(places)) if photos else ()
    return CaptionedPictures(pictures, captions, places, templates=templates, repeats=repeats), note


def caption_templates(texts: Sequence[str] | None, pictures: int, default: str) -> list[str]:
    """One caption per picture, each in one line: of a list of texts, of one text with a line for each, or `default`.

    In a list, an empty one is the default, too. Raises ValueError for another number of them.
    """
    captions = list(texts or ())
    if len(captions) == 1 and pictures > 1:
        captions = [line for line in captions[0].splitlines() if line.strip()]
    captions = [caption.replace(BYTE_ORDER_MARK, "").splitlines() for caption in captions]
    captions = [" ".join(line.strip() for line in lines if line.strip()) for lines in captions]
    if not any(captions):
        return [default] * pictures
    if len(captions) != pictures:
        raise ValueError(
            f"captions: got {len(captions)} for {pictures} pictures; give one per picture, as a list or one per "
            "line, or none at all."
        )
    return [caption or default for caption in captions]


def placed(caption: str, super_category: str) -> str:
    """With {} where the super-category stands in a caption that has none; as it is when that is not there once."""
    if "{}" in caption:
        return caption
    words = re.escape(super_category.strip())
    found, count = re.subn(rf"(?<!\w){words}(?!\w)", "{}", caption, flags=re.IGNORECASE)
    return found if count == 1 else caption


def told_of(captioned: CaptionedPictures, photos: PhotoFacts | None) -> str:
    """For the card, such as "12 pictures, 2 skipped: notes.pdf (no picture); repeats 3, 1, 1, …"."""
    count = len(captioned.templates)
    told = photos.summary if photos else "1 picture" if count == 1 else f"{count} pictures"
    if not captioned.repeats:
        return told
    shown = [*map(str, captioned.repeats[:MOST_REPEATS_TOLD]), *(["…"] if count > MOST_REPEATS_TOLD else [])]
    return f"{told}; repeats {', '.join(shown)}"


ENOUGH_TO_HOLD_OUT = 5


def part_held_out(
    captioned: CaptionedPictures, hold_out: bool
) -> tuple[CaptionedPictures, CaptionedPictures | None, list[str]]:
    """The pictures that are trained, the one held out to measure the steady loss, and what to tell the user of it."""
    count = len(captioned.templates)
    if not hold_out:
        return captioned, None, []
    if count < ENOUGH_TO_HOLD_OUT:
        return captioned, None, [f"hold_out needs {ENOUGH_TO_HOLD_OUT} pictures or more; all {count} are trained."]
    trained, held_out = captioned.parted(count - 1)
    return trained, held_out, [f"Picture {count} is held out: it is not trained, and the steady loss is of it."]


def advised_on(settings: Any, host: HostModels, images: Sequence[Tensor], *more: str | None) -> tuple[str, ...]:
    """What is legal and unwise in a node's settings and inputs, in lines for the user.

    images: as they came. more: what the node itself looks at.
    """
    own = own_side(host.model)
    return advice.advised(
        *more,
        advice.on_rate(settings.learning_rate, settings.published_rate),
        *advice.on_pictures(images, settings.resolution, settings.fit, own=own),
        advice.on_checkpoints(checkpoint_files(host.model, host.clip)),
        advice.on_few_steps(base_model_name(host.model)),
    )


def picture_digests(captioned: CaptionedPictures, held_out: bool, *more: str) -> tuple[str, str]:
    """Of pictures with their masks, and of their captions and `more`; their order does not count, but for one held out.

    Each is two digests: as earlier versions of the pack had it, and without the order.
    """
    pixels, masks = captioned.pictures.pixels, captioned.pictures.masks
    each = [digest(pixels[i], None if masks is None else masks[i]) for i, _ in enumerate(captioned.templates)]
    pairs = list(zip(each, captioned.templates, strict=True))
    pairs = [*sorted(pairs[:-1]), pairs[-1]] if held_out else sorted(pairs)
    of_pictures, of_captions = (digest(*texts) for texts in zip(*pairs, strict=True))
    of_captions = digest(of_captions, *more)
    return (
        f"{digest(*pixels, *(masks or [None]))} {of_pictures}",
        f"{digest(*captioned.templates, *more)} {of_captions}",
    )


def repeats_digest(captioned: CaptionedPictures) -> dict[str, str]:
    """As a part of `MadeOf`: which picture is drawn how often, in whatever order; none where all are drawn alike."""
    pairs = zip(captioned.pictures.pixels, captioned.repeats, strict=False)
    texts = sorted(f"{digest(pixels)} {count}" for pixels, count in pairs)
    return {"repeats": digest(*texts)} if texts else {}


def named_digest(rows: Iterable[TokenRow]) -> dict[str, str]:
    """As a part of `MadeOf`: the embeddings that captions name; none where they name none."""
    tokens = (token for row in rows for tokens in row.tokens.values() for token in tokens)
    vectors = {digest(token) for token in tokens if isinstance(token, Tensor)}
    return {"named_embeddings": digest(*sorted(vectors))} if vectors else {}


class WrittenFiles:
    """Files that nodes of a kind wrote and count on, by the name that they write: where one is gone, the host is not to
    reuse what such a node gave."""

    def __init__(self) -> None:
        self._paths: dict[str, tuple[Path, ...]] = {}
        self._times_gone: Counter[str] = Counter()

    def note(self, name: str, *paths: Path) -> None:
        """What was written, or was there already."""
        self._paths[name] = paths

    def times_gone(self, name: str) -> int:
        """For a node's fingerprint: one more each time that a file of this name has gone since it was noted."""
        if not all(path.exists() for path in self._paths.get(name, ())):
            del self._paths[name]
            self._times_gone[name] += 1
        return self._times_gone[name]
