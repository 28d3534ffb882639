"""The picture that a training leaves beside its file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def picture_beside(file: Path) -> Path:
    """Where the preview of a file lies; ComfyUI's list of models shows it."""
    return file.with_suffix(".preview.jpg")


def read_picture(path: Path) -> Tensor | None:
    """[1, H, W, 3] of a picture that a training wrote; None where there is none."""
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=["JPEG"]) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    except (OSError, ValueError, SyntaxError):
        return None
    return torch.from_numpy(pixels / 255).unsqueeze(0)
