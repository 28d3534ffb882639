"""Pages of attention maps: each picture with every word's map laid over it, and the word under it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...core_ops.attention_maps import CapturedAttention, Size, relative_maps, resized_maps
from ..charts import as_image, colored, new_figure
from .attention_settings import ALL_WORDS, MapSettings

PAGE_CELL, FRAME_CELL = 256, 128
"""Longest side in pixels of a picture on a page, and on a frame, of which there are many."""
SMALLEST_SIDE = 96
LETTER = 8
"""Width in pixels of a letter under a picture, about."""
LABEL_HEIGHT, TITLE_HEIGHT, MARGIN = 46, 32, 10


@dataclass(frozen=True)
class Panel:
    """One probe's part of every page. images: [B, H, W, 3] in 0…1. shown: the words' numbers."""

    images: Tensor
    captured: CapturedAttention
    shown: tuple[int, ...]

    def labels(self, image: int | None) -> list[str]:
        """Under each picture: the word, the head where they are apart, and the share in one image."""
        shares = None if image is None else self.captured.shares()[image]
        heads = self.captured.levels[0].sums.shape[3]
        labels = ["picture"]
        for word in self.shown:
            label = self.captured.words[word].label
            share = "" if shares is None else f"\n{float(shares[word]):.1%}"
            labels += [label + share] if heads == 1 else [f"{label} · head {head + 1}" for head in range(heads)]
        return labels


def draw_pages(panels: Sequence[Panel], settings: MapSettings) -> Tensor:
    """One page for each image, [B, height, width, 3]."""
    heats = _heats(panels, None, settings)
    return torch.stack(
        [
            _Page([panel.labels(image) for panel in panels], panels, PAGE_CELL, settings).filled(heats, image)
            for image in range(len(panels[0].images))
        ]
    )


def draw_frames(panels: Sequence[Panel], settings: MapSettings) -> Tensor:
    """All steps of the first image, then of the next, each with a bar that shows how far, [B·S, height, width, 3]."""
    page = _Page([panel.labels(None) for panel in panels], panels, FRAME_CELL, settings)
    steps = max(len(panel.captured.steps) for panel in panels)
    frames = []
    for step in range(steps):
        heats = _heats(panels, step, settings)
        for image in range(len(panels[0].images)):
            frame = page.filled(heats, image)
            frame[-4:, : frame.shape[1] * (step + 1) // steps] = 0.4
            frames.append(frame)
    return rearrange(torch.stack(frames), "(S B) H W C -> (B S) H W C", S=steps)


def _heats(panels: Sequence[Panel], step: int | None, settings: MapSettings) -> list[Tensor]:
    """Each panel's maps of the shown words, [B, T, H, h, w] in 0…1."""
    maps = [
        panel.captured.maps(None if step is None else min(step, len(panel.captured.steps) - 1))[:, list(panel.shown)]
        for panel in panels
    ]
    peak = None
    if settings.scale == ALL_WORDS:
        peaks = [panel_maps.amax(dim=(1, 2, 3, 4), keepdim=True) for panel_maps in maps]
        peak = torch.stack(peaks).amax(dim=0)
    return [relative_maps(panel_maps, peak) for panel_maps in maps]


class _Page:
    """A page laid out and lettered once by matplotlib; its pictures are put into their places pixel by pixel."""

    def __init__(self, labels: list[list[str]], panels: Sequence[Panel], cell: int, settings: MapSettings) -> None:
        self._panels, self._settings = panels, settings
        self._cells = [_cell_size(panel.images, cell) for panel in panels]
        columns = min(settings.columns, max(map(len, labels)))
        rows = [-(-len(texts) // columns) for texts in labels]
        heights = [
            count * (height + LABEL_HEIGHT) + TITLE_HEIGHT for count, (height, _) in zip(rows, self._cells, strict=True)
        ]
        width = columns * (max(width for _, width in self._cells) + MARGIN)
        figure = new_figure(width, sum(heights))
        parts = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        axes = []
        for part, count, texts, panel, size in zip(parts, rows, labels, panels, self._cells, strict=True):
            prompt = textwrap.shorten(panel.captured.prompt, width // LETTER, placeholder=" …")
            part.suptitle(prompt, fontsize=10, parse_math=False)
            axes.append(_lettered(part.subplots(count, columns, squeeze=False).flatten(), texts, size))
        self._blank = as_image(figure)[0]
        self._places = [[_pixels(place, self._blank.shape[0]) for place in group] for group in axes]

    def filled(self, heats: Sequence[Tensor], image: int) -> Tensor:
        """The page [height, width, 3] with one image and its heats in their places."""
        page = self._blank.clone()
        for panel, places, heat in zip(self._panels, self._places, heats, strict=True):
            for number, (rows, columns) in enumerate(places):
                size = rows.stop - rows.start, columns.stop - columns.start
                picture = _resized_picture(panel.images[image], size)
                if number:
                    word, head = divmod(number - 1, heat.shape[2])
                    picture = self._overlay(picture, heat[image : image + 1, word : word + 1, head : head + 1], size)
                page[rows, columns] = picture
        return page

    def _overlay(self, picture: Tensor, heat: Tensor, size: Size) -> Tensor:
        opacity = self._settings.opacity
        colors = colored(resized_maps(heat, size)[0, 0, 0], self._settings.color_map)
        return (1 - opacity) * picture + opacity * colors


def _lettered(axes, texts: Sequence[str], size: Size) -> list:
    """The places of the pictures, without ticks, with a text under each; the rest of the grid stays empty."""
    for place in axes[len(texts) :]:
        place.set_axis_off()
    for place, text in zip(axes, texts, strict=False):
        place.imshow(torch.ones(*size, 3).numpy())
        place.set(xticks=[], yticks=[])
        place.spines[:].set_visible(False)
        lines = [line for part in text.split("\n") for line in textwrap.wrap(part, max(size[1] // LETTER, 4))]
        place.set_xlabel("\n".join(lines), fontsize=9, parse_math=False)
    return list(axes[: len(texts)])


def _pixels(place, page_height: int) -> tuple[slice, slice]:
    """Rows and columns of the page that a place takes once the figure is drawn."""
    box = place.get_window_extent()
    rows = slice(page_height - round(box.y1), page_height - round(box.y0))
    return rows, slice(round(box.x0), round(box.x1))


def _cell_size(images: Tensor, longest: int) -> Size:
    """Height and width of an image with this longest side, and neither side very short."""
    scale = longest / max(images.shape[1:3])
    height, width = (max(SMALLEST_SIDE, round(side * scale)) for side in images.shape[1:3])
    return height, width


def _resized_picture(picture: Tensor, size: Size) -> Tensor:
    """[H, W, 3] at another size."""
    channels = rearrange(picture, "H W C -> 1 C H W")
    resized = F.interpolate(channels, size, mode="bilinear", antialias=True, align_corners=False)
    return rearrange(resized, "1 C H W -> H W C").clamp(0, 1)
