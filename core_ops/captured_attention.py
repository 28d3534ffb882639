"""Maps of how much each pixel attends to each word, added up over layers and steps, and what is read off them.

`S` steps, `B` images, `T` words, `H` heads (1 where they are averaged), `P` pixels, `N` keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from torch import Tensor

from .prompts.prompt_words import WatchedWord

PROBABILITIES_AT_ONCE = 2**24
"""Pixels are taken in parts so that not more probabilities than this exist at a time: 64 MiB in fp32."""

Size = tuple[int, int]
"""Height and width."""


def word_attention(q: Tensor, k: Tensor, heads: int, weights: Tensor, each_head: bool = False) -> Tensor:
    """Attention probability of each word, [B, T, H, P] in fp32: softmax(qkᵀ/√d) summed over the word's tokens.

    q: [B, P, H·d]. k: [B, N, H·d]. weights: [N, T] on their device, see `token_weights`. Logits in half precision would
    be off by some percent of a probability, so they are computed in fp32 as inside of fused attention.
    """
    keys = rearrange(k.float(), "B N (H d) -> B H d N", H=heads)
    pixels = max(1, PROBABILITIES_AT_ONCE // (q.shape[0] * heads * k.shape[1]))
    parts = []
    for part in q.split(pixels, dim=1):
        queries = rearrange(part.float(), "B P (H d) -> B H P d", H=heads) * keys.shape[2] ** -0.5
        probabilities = torch.softmax(queries @ keys, dim=-1)
        if not each_head:
            probabilities = probabilities.mean(dim=1, keepdim=True)
        parts.append(einsum(probabilities, weights, "B H P N, N T -> B T H P"))
    return torch.cat(parts, dim=-1)


@dataclass(frozen=True)
class Region:
    """The part of the latent that a map covers: top, left, height and width in cells of a latent of size `whole`."""

    top: int
    left: int
    height: int
    width: int
    whole: Size

    def on(self, size: Size) -> tuple[slice, slice]:
        """Rows and columns of the region on a canvas of another size, at least one of each."""
        return (
            _scaled(self.top, length=self.height, size=size[0], whole=self.whole[0]),
            _scaled(self.left, length=self.width, size=size[1], whole=self.whole[1]),
        )


def _scaled(start: int, length: int, size: int, whole: int) -> slice:
    """The stretch of `length` cells of a `whole` on a side of another size, at least one cell."""
    first = min(round(start * size / whole), size - 1)
    return slice(first, max(first + 1, round((start + length) * size / whole)))


class MapCanvas:
    """Sums of the maps of all layers of one resolution, and of the weights with which they came.

    sums: [S, B, T, H, h, w]. weights: [S, B, 1, 1, h, w].
    """

    def __init__(self, steps: int, images: int, words: int, heads: int, size: Size) -> None:
        self.sums = torch.zeros(steps, images, words, heads, *size)
        self.weights = torch.zeros(steps, images, 1, 1, *size)
        self.size = size

    def add(self, step: int, maps: Tensor, region: Region, mask: Tensor | None = None) -> None:
        """maps: [B, T, H, h', w'] of the region, of any size. mask: [B or 1, h'', w''], how much it counts where."""
        rows, columns = region.on(self.size)
        size = rows.stop - rows.start, columns.stop - columns.start
        weights = torch.ones(1, 1, 1, *size)
        if mask is not None:
            weights = rearrange(_resized(mask.unsqueeze(1), size, "area"), "B 1 h w -> B 1 1 h w")
        self.sums[step, ..., rows, columns] += resized_maps(maps, size) * weights
        self.weights[step, ..., rows, columns] += weights


@dataclass(frozen=True)
class MapLevel:
    """A canvas that is complete, and how many layers were added up on it."""

    sums: Tensor
    weights: Tensor
    layers: int

    def mean(self, step: int | None, size: Size | None = None) -> Tensor:
        """[B, T, H, h, w]: of one step or all; 0 where nothing was painted. size: resized to it."""
        sums, weights = _step(self.sums, step), _step(self.weights, step)
        if size is not None:  # apart, so that the border of a region does not fade
            sums, weights = resized_maps(sums, size), resized_maps(weights, size)
        return sums / weights.clamp_min(_TINY)

    def painted(self, step: int | None) -> Tensor:
        """Where any map came, [B, 1, 1, h, w]."""
        return _step(self.weights, step) > 0

    def shares(self, step: int | None) -> Tensor:
        """[B, T]: mean over heads and pixels."""
        sums = reduce(_step(self.sums, step), "B T H h w -> B T H", "sum").mean(dim=-1)
        return sums / reduce(_step(self.weights, step), "B 1 1 h w -> B 1", "sum").clamp_min(_TINY)


@dataclass(frozen=True)
class CapturedAttention:
    """What one sampling showed.

    levels: from fine to coarse. steps: numbers of the steps kept, counted from 1; one alone stands for all when only
    their mean was kept. note: what the reader should know, or "".
    """

    prompt: str
    words: tuple[WatchedWord, ...]
    levels: tuple[MapLevel, ...]
    steps: tuple[int, ...]
    note: str = ""

    @property
    def images(self) -> int:
        return self.levels[0].sums.shape[1]

    def maps(self, step: int | None = None) -> Tensor:
        """Mean over layers, each counting the same, [B, T, H, h, w] at the finest resolution. step: index, or all."""
        height, width = self.levels[0].sums.shape[-2:]
        merged = sum(level.mean(step, (height, width)) * level.layers for level in self.levels)
        return merged * self.levels[0].painted(step) / sum(level.layers for level in self.levels)

    def shares(self, step: int | None = None) -> Tensor:
        """Mean probability of each word over layers, heads and pixels, [B, T]. All tokens of a prompt sum to 1."""
        shares = sum(level.shares(step) * level.layers for level in self.levels)
        return shares / sum(level.layers for level in self.levels)  # type: ignore[return-value]


def canvas_bytes(sizes: Sequence[tuple[Size, int]], steps: int, images: int, words: int) -> int:
    """Memory of all canvases, given the size and heads of each."""
    return sum(4 * steps * images * (words * heads + 1) * height * width for (height, width), heads in sizes)


def resized_maps(maps: Tensor, size: Size) -> Tensor:
    """[B, T, H, h, w] at another height and width, between neighbours linearly."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    flat = _resized(rearrange(maps, "B T H h w -> B (T H) h w"), size, "bilinear")
    return rearrange(flat, "B (T H) h w -> B T H h w", H=maps.shape[2])


def relative_maps(maps: Tensor, peak: Tensor | None = None) -> Tensor:
    """Maps [B, T, H, h, w] in 0…1: divided by `peak`, or each by its own maximum."""
    largest = maps.amax(dim=(3, 4), keepdim=True) if peak is None else peak
    return (maps / largest.clamp_min(_TINY)).clamp(0, 1)


def word_masks(maps: Tensor, size: Size, threshold: float | None = None) -> Tensor:
    """Masks [T, B, height, width] in 0…1 from maps [B, T, H, h, w], averaged over heads.

    threshold: part of the map's maximum from which on a mask is 1, else 0; None for a soft mask.
    """
    mean = maps.mean(dim=2, keepdim=True)
    soft = rearrange(relative_maps(resized_maps(mean, size)), "B T 1 h w -> T B h w")
    return soft if threshold is None else ((soft >= threshold) & (soft > 0)).float()


_TINY = 1e-12


def _step(values: Tensor, step: int | None) -> Tensor:
    """One step of values [S, ...], or the sum of all."""
    return values.sum(dim=0) if step is None else values[step]


def _resized(values: Tensor, size: Size, mode: str) -> Tensor:
    """[B, C, h, w] → [B, C, *size]."""
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(
        values, size=tuple(size), mode=mode, **({"align_corners": False} if mode == "bilinear" else {})
    )
