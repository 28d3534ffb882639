"""The shapes that are measured: random weights in the layouts by which ComfyUI recognises the families."""

from __future__ import annotations

from dataclasses import dataclass, replace

from families.build import CLIP_H, FAMILIES, Family, TextEncoder

SD1, SD2, VEGA = FAMILIES["sd1"], FAMILIES["sd2"], FAMILIES["sdxl"]


@dataclass(frozen=True)
class Size:
    """side: of the pictures, in pixels. apart: the subjects do not fit into memory side by side."""

    family: Family
    side: int
    batch: int
    apart: bool = False


def _full(encoder: TextEncoder) -> TextEncoder:
    layers, mlp_width = encoder.full
    return replace(encoder, layers=layers, mlp_width=mlp_width)


def _published(family: Family) -> Family:
    """As published: four levels of two blocks."""
    return replace(
        family,
        blocks_per_level=2,
        depths=(1, 1, 1, 0),
        up_depths=(1, 1, 1, 0),
        level_widths=(320, 640, 1280, 1280),
        text_encoders=tuple(map(_full, family.text_encoders)),
    )


MEDIUM = replace(
    SD2, blocks_per_level=2, level_widths=(320, 640), text_encoders=(replace(CLIP_H, layers=6, mlp_width=4096),)
)
SD15 = _published(SD1)
SD21 = _published(SD2)
SD21_HALF = replace(SD21, blocks_per_level=1, text_encoders=(replace(CLIP_H, layers=6, mlp_width=4096),))
"""SD2.1's widths and levels with half the blocks: at 512 pixels the released method takes less than 8 GB with it."""
SDXL = replace(
    VEGA,
    depths=(0, 2, 10),
    up_depths=(0, 2, 10),
    middle_depth=10,
    level_widths=(320, 640, 1280),
    text_encoders=tuple(map(_full, VEGA.text_encoders)),
)

SIZES = {
    "tiny": Size(SD2, 64, 1),
    "small": Size(SD2, 128, 1),
    "medium": Size(MEDIUM, 256, 1),
    "sd15": Size(SD15, 512, 1, apart=True),
    "sd21-half": Size(SD21_HALF, 512, 1, apart=True),
    "sd21": Size(SD21, 512, 1, apart=True),
    "sd21-256": Size(SD21, 256, 2, apart=True),
    "sdxl-small": Size(VEGA, 128, 1),
    "sdxl": Size(SDXL, 1024, 1, apart=True),
}
