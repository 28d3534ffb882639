"""What both training nodes are given: their sockets, and what is checked before any long work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...core_ops.pictures import Pictures, validate_side
from ...core_ops.prompts.prompt_templates import validate_template
from ...core_ops.prompts.token_rows import TokenRow
from ...core_ops.training.training_data import CaptionedPictures
from ..host.models.denoiser import own_side
from ..host.models.host_models import HostModels, checkpoint_files
from ..host.models.module_copy import validate_precision
from ..host.prompts.prompt_rows import naming
from ..settings import showing
from . import advice
from .concept_preview import preview_templates


def model_inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="A Stable Diffusion 1.x, 2.x or XL model. It stays as it is."),
        io.Clip.Input("clip", tooltip="The model's text encoder. It stays as it is."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
    ]


def picture_inputs() -> list[Any]:
    return [
        io.Image.Input("images", tooltip="About four pictures of the concept, as a batch or a list, of any sizes."),
        io.Mask.Input(
            "masks",
            optional=True,
            tooltip="One mask per picture: white is the concept. Optional.",
            extra_dict=showing({"connected": ["use_masks"]}),
        ),
        io.String.Input(
            "captions",
            optional=True,
            force_input=True,
            tooltip="One caption per picture, each with {} once, as a list or one per line. Optional.",
        ),
    ]


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
    pictures: Pictures, captions: Sequence[str] | None, default: str, row_of: Callable[[str], TokenRow]
) -> CaptionedPictures:
    """Pictures with one caption each: from a list, from a text with one line per picture, or `default` for all.

    row_of: a template as a token row. Raises ValueError for captions that do not fit.
    """
    templates = caption_templates(captions, pictures.pixels.shape[0], default)
    distinct = list(dict.fromkeys(templates))
    with naming("captions" if captions else "caption_template"):
        rows = [row_of(template) for template in distinct]
    return CaptionedPictures(
        pictures, rows, caption_of_picture=[distinct.index(template) for template in templates], templates=templates
    )


def caption_templates(captions: Sequence[str] | None, pictures: int, default: str) -> list[str]:
    """One caption template per picture: a list, a text with one line per picture, or the default for all."""
    lines = [line.strip() for text in captions or () for line in text.splitlines() if line.strip()]
    for template in lines or [default]:
        validate_template("captions" if lines else "caption_template", template)
    if not lines:
        return [default] * pictures
    if len(lines) != pictures:
        raise ValueError(f"captions: got {len(lines)} for {pictures} images; give one line per image, or none at all.")
    return lines


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
    )
