"""Sockets that all training nodes have in common."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io


def model_inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="A Stable Diffusion 1.x, 2.x or XL model. It stays as it is."),
        io.Clip.Input("clip", tooltip="The model's text encoder. It stays as it is."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
    ]


def picture_inputs() -> list[Any]:
    return [
        io.Image.Input("images", tooltip="About four pictures of the concept, as a batch or a list, of any sizes."),
        io.Mask.Input("masks", optional=True, tooltip="One mask per picture: white is the concept. Optional."),
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
