"""Text about a picture from a vision-language text encoder, through core's own generation interface.

The calls and sampling values are those of core's node *Generate Text*. Leans on `BaseGenerate` and `CLIP.generate`,
which hosts have since 0.15.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import comfy.utils
import torch
from comfy.sd import CLIP
from comfy.text_encoders.llama import BaseGenerate
from torch import Tensor

MOST_PIXELS = 1024 * 1024
"""Larger pictures are made smaller: their tokens grow with their pixels, and a caption needs no more."""


@dataclass(frozen=True)
class Generation:
    """max_tokens: where an answer is cut off. temperature: 0 for the likeliest word each time."""

    max_tokens: int
    temperature: float
    seed: int


def validate_reader(clip: CLIP) -> None:
    """Raises ValueError unless the text encoder generates text, and reads pictures with it."""
    kind = type(clip.cond_stage_model).__name__
    remedy = (
        "load a vision-language model that ComfyUI's Generate Text takes with a picture, such as Qwen3-VL or Gemma 3."
    )
    generators = [module for module in clip.cond_stage_model.modules() if isinstance(module, BaseGenerate)]
    if not generators:
        raise ValueError(f"vision_clip: {kind} generates no text; {remedy}")
    tokenized = _tokenize(clip, "x", torch.zeros(1, 64, 64, 3))
    rows = [row for rows in (tokenized.values() if isinstance(tokenized, dict) else [tokenized]) for row in rows]
    tokens = [entry[0] for row in rows for entry in row]
    has_picture = any(isinstance(token, dict) and token.get("type") == "image" for token in tokens)
    if not has_picture or not any(hasattr(module, "preprocess_embed") for module in generators):
        raise ValueError(f"vision_clip: {kind} reads no pictures; {remedy}")


def describe(clip: CLIP, question: str, picture: Tensor, generation: Generation) -> str:
    """The model's answer to a question about one picture [3, H, W] in 0…1."""
    sampling: dict[str, Any] = {"do_sample": False}
    if generation.temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": generation.temperature,
            "top_k": 64,
            "top_p": 0.95,
            "min_p": 0.05,
            "repetition_penalty": 1.05,
            "seed": generation.seed,
        }
    image = picture.unsqueeze(0)
    height, width = picture.shape[-2:]
    if height * width > MOST_PIXELS:
        scale = math.sqrt(MOST_PIXELS / (height * width))
        image = comfy.utils.common_upscale(
            image, width=round(width * scale), height=round(height * scale), upscale_method="area", crop="disabled"
        )
    tokens = _tokenize(clip, question, image.movedim(1, -1))
    return clip.decode(clip.generate(tokens, max_length=generation.max_tokens, **sampling))


def _tokenize(clip: CLIP, question: str, image: Tensor) -> Any:
    """Rows of tokens, or such rows by a tokenizer's name, of a question about an image [1, H, W, 3]."""
    return clip.tokenize(
        question, image=image, skip_template=False, min_length=1, thinking=False, video=None, audio=None
    )
