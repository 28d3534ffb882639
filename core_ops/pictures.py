"""The user's pictures, of any size and channel count, as RGB of the sizes that are trained, with masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

Fit = Literal["crop", "keep", "pad"]
Size = tuple[int, int]
"""Height and width in pixels."""
LATENT_CELL = 8
"""Pixels per latent cell and side in every Stable Diffusion VAE."""
SIZE_STEP = 64
"""Pixels: a U-Net halves its latents three times."""
MUCH_ENLARGED = 2
"""Times: more is learned as blur."""
COPIES = 16
"""Of every picture, where a paper changes it anew each time that it is drawn: a pool of changed copies is made once."""
USUAL_SIDE = 512
"""Pixels: what is said of pictures before the model's own side is known holds for this one."""
LONGEST = 2
"""A side of what "keep" makes, in sides of the square of the same area."""


@dataclass(frozen=True)
class Pictures:
    """pixels: [3, H, W] in 0…1 of each. masks: what counts in its loss, [1, H, W] in 0…1, or None for everything."""

    pixels: Sequence[Tensor]
    masks: Sequence[Tensor] | None

    @property
    def sizes(self) -> list[Size]:
        return [(picture.shape[-2], picture.shape[-1]) for picture in self.pixels]

    def shown(self, count: int) -> Sequence[Tensor]:
        """The first `count` for people, [3, H, W] of each: what its mask leaves out is dark."""
        if self.masks is None:
            return self.pixels[:count]
        pairs = zip(self.pixels[:count], self.masks, strict=False)
        return [pixels * (0.2 + 0.8 * mask) for pixels, mask in pairs]


def prepare_pictures(
    images: Sequence[Tensor], masks: Sequence[Tensor] | None, side: int, fit: Fit = "crop", name: str = "images"
) -> Pictures:
    """Brings images [b, H, W, C] with 1 to 4 channels, and masks [b, H, W] if any, to the area of `side` × `side`.

    On the CPU, wherever they came from. "crop" cuts the centre square; "keep" keeps the proportions, to the nearest of
    `kept_sizes`; "pad" keeps the whole picture in a square of white, which the masks leave out of the loss. Grey is
    repeated to RGB, transparency laid on white. Raises ValueError, beginning with the input's name, for what cannot be
    trained on.
    """
    validate_side(side)
    singles = single_pictures(name, [batch.cpu() for batch in images])
    chosen = None if masks is None else whole_where_empty(single_masks([batch.cpu() for batch in masks]), singles)
    if chosen is not None:
        validate_masks("masks", chosen, singles)
        if all(bool((mask == 1).all()) for mask in chosen):
            chosen = None  # White everywhere leaves nothing out; resampled, it would no longer be 1.
    pixels = [_fitted(rgb(picture), side, fit, border=1.0).clamp(0, 1) for picture in singles]
    if chosen is None and fit == "pad":
        chosen = [torch.ones(picture.shape[:2]) for picture in singles]
    weights = None
    if chosen is not None:
        weights = [_fitted(mask.unsqueeze(0), side, fit, border=0.0) for mask in chosen]
    return Pictures(pixels, weights)


def fitted_size(size: Size, side: int, fit: Fit) -> Size:
    """Of a picture of this size, once it is brought to the area of `side` × `side`."""
    if fit != "keep":
        return side, side
    return min(kept_sizes(side), key=lambda kept: abs(math.log(kept[0] * size[1] / (kept[1] * size[0]))))


def part_kept(size: Size, fitted: Size) -> tuple[int, int, int, int]:
    """Top, left, height and width of the middle of a picture that has the proportions of the size it is brought to."""
    scale = min(size[0] / fitted[0], size[1] / fitted[1])
    rows, columns = round(scale * fitted[0]), round(scale * fitted[1])
    return (size[0] - rows) // 2, (size[1] - columns) // 2, rows, columns


def kept_sizes(side: int) -> list[Size]:
    """What "keep" chooses from: `side` × `side`, and sizes in steps of 64 pixels of at most its area: for each side the
    longest other one that this allows, both at most twice `side` (NovelAI's aspect ratio buckets)."""
    firsts = range(SIZE_STEP, LONGEST * side + 1, SIZE_STEP)
    sizes = [(first, side * side // first // SIZE_STEP * SIZE_STEP) for first in firsts]
    oblong = [size for size in sizes if 0 < size[1] <= LONGEST * side and size[0] != size[1]]
    return [(side, side), *dict.fromkeys([*oblong, *((short, long) for long, short in oblong)])]


def scaled_side(size: Size, side: int, fit: Fit) -> tuple[int, int]:
    """The side of a picture of this size that decides how much it is scaled: its pixels before and after."""
    sides = zip(size, fitted_size(size, side, fit), strict=True)
    return (min if fit == "pad" else max)(sides, key=lambda pair: pair[1] / pair[0])


def validate_side(side: int) -> None:
    """Raises ValueError for a resolution that a VAE cannot halve."""
    if side < LATENT_CELL or side % LATENT_CELL:
        raise ValueError(f"resolution: {side} is not a multiple of {LATENT_CELL} pixels; round it, for example to 512.")


def single_pictures(name: str, images: Sequence[Tensor]) -> list[Tensor]:
    """The pictures [H, W, C] in fp32 of batches [b, H, W, C] of any sizes, as an IMAGE socket brings them.

    Raises ValueError, beginning with the input's name, when there is none, or one cannot be used.
    """
    pictures = [picture for batch in images for picture in batch.float()]
    if not pictures:
        raise ValueError(f"{name}: got none; connect at least one picture.")
    validate_pictures(name, pictures)
    return pictures


def single_masks(masks: Sequence[Tensor]) -> list[Tensor]:
    """The masks [H, W] in fp32 of batches [b, H, W], of single ones [H, W], and of [b, 1, H, W], as nodes hand them."""
    return [mask for batch in masks for mask in batch.float().reshape(-1, *batch.shape[-2:])]


def whole_where_empty(masks: Sequence[Tensor], pictures: Sequence[Tensor]) -> list[Tensor] | None:
    """Masks [H, W], one that leaves out nothing for each that is empty; None when all are.

    The host's image loader gives an empty one, of any size, for a picture [H, W, C] without transparency.
    """
    if len(masks) != len(pictures):  # that is said elsewhere
        return list(masks)
    if all(map(is_empty, masks)):
        return None
    pairs = zip(masks, pictures, strict=True)
    return [torch.ones(picture.shape[:2]) if is_empty(mask) else mask for mask, picture in pairs]


def is_empty(mask: Tensor) -> bool:
    return mask.numel() > 0 and bool(mask.max() <= 0)


def looks_inverted(mask: Tensor, picture: Tensor) -> bool:
    """Whether a mask [H, W] is white where its picture [H, W, C] is transparent, or around it and not in the middle.

    So the host's image loader gives it for a cut-out. It cannot be known: the loader drops the transparency.
    """
    if mask.shape != picture.shape[:2]:
        return False
    if picture.shape[-1] in (2, 4) and (alpha := picture[..., -1]).min() < 1:
        return bool((mask * (1 - alpha)).sum() > (mask * alpha).sum())
    border = torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()
    height, width = mask.shape
    middle = mask[height // 4 : -(-3 * height // 4), width // 4 : -(-3 * width // 4)].mean()
    return bool(border > 0.5 > middle)


def latent_mask(mask: Tensor) -> Tensor:
    """A mask [1, H, W] averaged over each latent cell, [1, H/8, W/8]."""
    return interpolate(mask.unsqueeze(0), scale_factor=1 / LATENT_CELL, mode="area")[0]


def augment(pictures: Pictures, variants: int, generator: torch.Generator) -> Pictures:
    """`variants` changed copies of every picture, after AttnDreamBooth's augmentation (as in the released program).

    Rotation up to ±45° with probability 0.75, horizontal flip with 0.25, resizing by 0.8…1.2 and a shift within the
    frame (random crop). One resampling; what comes into view from outside mirrors the picture.
    """
    repeated = [picture for picture in pictures.pixels for _ in range(variants)]
    grids = [
        affine_grid(_on_frame(_random_transform(generator), picture).unsqueeze(0), [1, *picture.shape], False)
        for picture in repeated
    ]

    def resampled(x: Tensor, grid: Tensor) -> Tensor:
        return grid_sample(x.unsqueeze(0), grid, padding_mode="reflection", align_corners=False)[0].clamp(0, 1)

    pixels = [resampled(picture, grid) for picture, grid in zip(repeated, grids, strict=True)]
    if pictures.masks is None:
        return Pictures(pixels, None)
    masks = [mask for mask in pictures.masks for _ in range(variants)]
    return Pictures(pixels, [resampled(mask, grid) for mask, grid in zip(masks, grids, strict=True)])


def _random_transform(generator: torch.Generator) -> Tensor:
    """Affine matrix [2, 3] from output to input coordinates, which run over -1…1 of a square."""
    rotate, angle, flip, size, shift_x, shift_y = torch.rand(6, generator=generator).tolist()
    radians = math.radians((2 * angle - 1) * 45) if rotate < 0.75 else 0.0
    zoom = 1 / (0.8 + 0.4 * size)
    mirror = -1.0 if flip < 0.25 else 1.0
    slack = abs(1 - zoom)
    cos, sin = zoom * math.cos(radians), zoom * math.sin(radians)
    return torch.tensor(
        [[mirror * cos, -mirror * sin, (2 * shift_x - 1) * slack], [sin, cos, (2 * shift_y - 1) * slack]]
    )


def _on_frame(transform: Tensor, picture: Tensor) -> Tensor:
    """The same for a picture [C, H, W], each of whose sides runs over -1…1: without this a turn would shear it."""
    long = picture.shape[-2] / picture.shape[-1]
    return transform * torch.tensor([[1.0, long, 1.0], [1 / long, 1.0, 1.0]])


def validate_pictures(name: str, pictures: Sequence[Tensor]) -> None:
    """Raises ValueError, beginning with the input's name, for a picture [H, W, C] that cannot be used."""
    for index, picture in enumerate(pictures):
        height, width, channels = picture.shape
        if min(height, width) < LATENT_CELL:
            raise ValueError(
                f"{name}: picture {index} has {width}×{height} pixels; at least {LATENT_CELL}×{LATENT_CELL} are "
                "needed. Use a larger picture."
            )
        if not 1 <= channels <= 4:
            raise ValueError(
                f"{name}: picture {index} has {channels} channels; give it 1 to 4: grey or RGB, with alpha or without."
            )
        if not torch.isfinite(picture).all():
            raise ValueError(f"{name}: picture {index} has values that are not finite; check the node that made it.")


def validate_masks(name: str, masks: Sequence[Tensor], pictures: Sequence[Tensor]) -> None:
    """Raises ValueError, beginning with the input's name, unless there is a mask [H, W] of its size per picture."""
    if len(masks) != len(pictures):
        raise ValueError(
            f"{name}: got {len(masks)} for {len(pictures)} pictures; connect one mask per picture or none."
        )
    for index, (mask, picture) in enumerate(zip(masks, pictures, strict=True)):
        if mask.shape != picture.shape[:2] and is_empty(mask):
            raise ValueError(
                f"{name}: mask {index} is empty, as ComfyUI's Load Image gives it for a picture without transparency; "
                "connect a mask of what counts, or none."
            )
        if mask.shape != picture.shape[:2]:
            raise ValueError(
                f"{name}: mask {index} is {tuple(mask.shape)[::-1]}, its picture {tuple(picture.shape[:2])[::-1]} "
                "pixels (width, height); resize the mask to its picture."
            )
        if not torch.isfinite(mask).all():
            raise ValueError(f"{name}: mask {index} has values that are not finite; check the node that made it.")


def rgb(picture: Tensor) -> Tensor:
    """[H, W, C] of 1 to 4 channels → [3, H, W]: grey is repeated, transparency laid on white."""
    channels = picture.movedim(-1, 0)
    colour, alpha = (channels[:-1], channels[-1:]) if channels.shape[0] in (2, 4) else (channels, None)
    colour = colour.expand(3, -1, -1)
    return colour if alpha is None else colour * alpha + (1 - alpha)


def _fitted(picture: Tensor, side: int, fit: Fit, border: float) -> Tensor:
    """[C, h, w] → [C, H, W]."""
    height, width = picture.shape[-2:]
    size = fitted_size((height, width), side, fit)
    if fit == "pad":
        edge = max(height, width)
        left, top = (edge - width) // 2, (edge - height) // 2
        picture = pad(picture, (left, edge - width - left, top, edge - height - top), value=border)
    else:
        top, left, rows, columns = part_kept((height, width), size)
        picture = picture[:, top : top + rows, left : left + columns]
    if picture.shape[-2:] == size:
        return picture
    return interpolate(picture.unsqueeze(0), size, mode="bilinear", antialias=True, align_corners=False)[0]
