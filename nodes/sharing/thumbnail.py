"""A small picture inside a file's metadata, as sai_model_spec has it (modelspec.thumbnail)."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core_ops.pictures import rgb, validate_pictures
from ..files.concept_files import picture_beside, read_picture
from ..host.run_control import JPEG_URI, data_uri, image_of, jpeg

KEY = "modelspec.thumbnail"
SIDE = 512
LARGEST = 4 * 2**20
"""Bytes of one that is read."""


def encode_thumbnail(images: Tensor) -> str:
    """The first picture of a batch [B, H, W, 3], at most `SIDE` pixels a side, as a JPEG in a data URI."""
    if not len(images):
        raise ValueError("preview: got an empty batch; connect a picture, or nothing.")
    validate_pictures("preview", [images[0]])
    picture = image_of(rgb(images[0].detach().cpu().float()).movedim(0, -1))
    picture.thumbnail((SIDE, SIDE))
    return data_uri(jpeg(picture, quality=85))


def picture_of(file: Path, metadata: Mapping[str, str]) -> Tensor | None:
    """[1, H, W, 3]: the picture in a concept's file, or that which its training left beside it."""
    return decode_thumbnail("file", metadata[KEY]) if KEY in metadata else read_picture(picture_beside(file))


def decode_thumbnail(parameter: str, uri: str) -> Tensor:
    """[1, H, W, 3]; raises ValueError for anything but a small JPEG."""
    try:
        if not uri.startswith(JPEG_URI) or len(uri) > LARGEST:
            raise ValueError("a JPEG in a data URI is expected")
        content = base64.b64decode(uri.removeprefix(JPEG_URI), validate=True)
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
            if max(picture.size) > 4 * SIDE:
                raise ValueError(f"it is {picture.size[0]}x{picture.size[1]} pixels large")
            pixels = np.asarray(picture.convert("RGB"))
    except (ValueError, OSError, SyntaxError) as error:
        raise ValueError(f"{parameter}: its preview cannot be read ({error}); choose another file.") from error
    return torch.from_numpy(pixels.astype(np.float32) / 255).unsqueeze(0)
