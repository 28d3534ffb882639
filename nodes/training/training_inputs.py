"""What both training nodes are given: their sockets, and what is checked before any long work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...core_ops.pictures import Pictures, validate_side
from ...core_ops.prompts.prompt_templates import validate_template
from ...core_ops.prompts.token_rows import TokenRow
from ...core_ops.training.training_data import CaptionedPictures
from ..files import concept_files
from ..host.models.module_copy import validate_precision
from ..host.prompts.prompt_rows import naming
from ..settings import showing


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
        raise ValueError(f"captions: {len(lines)} came for {pictures} images; give one line per image, or none at all.")
    return lines


FREE_TO_CHANGE = (
    "steps", "overwrite", "preview_every", "save_every", "resume_from", "gradient_checkpointing", "fused_backward",
    "checkpointing_levels", "offload",
)  # fmt: skip
"""Settings that a resumed run may have other values of."""


def fingerprint(settings: Mapping[str, Any], texts: Sequence[str], tensors: Sequence[Tensor | None]) -> str:
    """SHA-256 in hex of all that a resumed run must share with the run it continues."""
    shared = {key: value for key, value in settings.items() if key not in FREE_TO_CHANGE}
    digest = hashlib.sha256(json.dumps([shared, *texts], sort_keys=True).encode())
    for tensor in tensors:
        digest.update(b"" if tensor is None else tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def resumed_state(resume_from: str, state_name: str, expected: str, steps: int) -> dict[str, Any] | None:
    """The saved state that `resume_from` asks for, None without one; raises ValueError when it does not fit."""
    if not resume_from:
        return None
    state = concept_files.load_state(state_name)
    _validate_form(resume_from, state)
    if state["fingerprint"] != expected:
        raise ValueError(
            f"resume_from: {resume_from!r} was saved with another model, other settings, pictures or "
            "captions; use the same (name, steps, preview, saving may change), or leave resume_from empty to start."
        )
    done = state["loop"]["step"]
    if done > steps:  # all done is well: saving may have failed
        raise ValueError(f"resume_from: {resume_from!r} has {done} steps done already; set steps to that or more.")
    return state


def _validate_form(resume_from: str, state: Any) -> None:
    """Raises ValueError unless `state` has the parts that a run saves; the loop looks at its own."""
    loop, losses = (state.get(key) if isinstance(state, dict) else None for key in ("loop", "losses"))
    curves = losses.values() if isinstance(losses, dict) else [None]
    if (
        not isinstance(loop, dict)
        or type(loop.get("step")) is not int
        or loop["step"] < 0
        or not isinstance(state.get("fingerprint"), str)
        or not all(isinstance(curve, list) and all(type(v) in (int, float) for v in curve) for curve in curves)
    ):
        raise ValueError(f"resume_from: {resume_from!r} is not a state that this node saved; start anew.")
