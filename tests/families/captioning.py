"""The node "Selectively Informative Captions" as the host runs it, on pictures drawn at random."""

from __future__ import annotations

import uuid
from pathlib import Path

import torch

ANSWER = "A photo of one fluffy brown dog, sitting under a wooden table."
OWN = "a {} in the snow\na {} on a rug\na {} by a lake"
CAPTION = "a photo of a {}, sitting under a wooden table"


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    """[1, H, W, 3] each, as 8-bit files hold them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return [torch.randint(0, 256, (1, h, w, 3), generator=generator) / 255 for h, w in sizes or [(64, 64)] * 3]


def execute(images=None, vision_clip=None, clip=None, captions=None, **settings) -> tuple[list[str], str]:
    """The node as the host runs it: under inference mode, every input a list."""
    from core_personalization.nodes.captions.selective_caption import SelectiveCaption

    values = {name: [value] for name, value in {"super_category": "dog", **settings}.items()}
    listed = [None if value is None else [value] for value in (vision_clip, clip)]
    with torch.inference_mode():
        return SelectiveCaption.execute(images or pictures(), *listed, captions, **values).args


def new_folder() -> Path:
    """In the host's input folder; it does not exist yet."""
    import folder_paths

    return Path(folder_paths.get_input_directory()) / f"set-{uuid.uuid4().hex[:8]}"
