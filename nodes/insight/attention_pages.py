"""Pages of attention maps: each picture with every word's map laid over it, and the word under it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...core_ops.captured_attention import CapturedAttention, Size, relative_maps, resized_maps
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
            _Page([panel.labels(image) for panel in panels], panels, cell=PAGE_CELL, settings=settings).filled(
                heats, image
            )
            for image in range(len(panels[0].images))
        ]
    )


def draw_frames(panels: Sequence[Panel], settings: MapSettings) -> Tensor:
    """All steps of the first image, then of the next, each with a bar that shows how far, [B·S, height, width, 3]."""
    page = _Page([panel.labels(None) for panel in panels], panels, cell=FRAME_CELL, settings=settings)
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
        # Of each panel: its pictures' size, with this longest side and neither side very short, and its lines of them.
        sizes = [
            [max(SMALLEST_SIDE, round(side * cell / max(panel.images.shape[1:3]))) for side in panel.images.shape[1:3]]
            for panel in panels
        ]
        columns = min(settings.columns, max(map(len, labels)))
        lines = [-(-len(texts) // columns) for texts in labels]
        heights = [
            count * (height + LABEL_HEIGHT) + TITLE_HEIGHT for count, (height, _) in zip(lines, sizes, strict=True)
        ]
        width = columns * (max(width for _, width in sizes) + MARGIN)
        figure = new_figure(width, sum(heights))
        parts = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        axes = []
        for part, count, texts, panel, (height, cell_width) in zip(parts, lines, labels, panels, sizes, strict=True):
            prompt = textwrap.shorten(panel.captured.prompt, width // LETTER, placeholder=" …")
            part.suptitle(prompt, fontsize=10, parse_math=False)
            places = part.subplots(count, columns, squeeze=False).flatten()
            axes.append(_lettered(places, texts, (height, cell_width)))
        self._blank = as_image(figure)[0]
        # Where a place lies is known once the figure is drawn; matplotlib counts from below.
        bottom = self._blank.shape[0]
        boxes = [[place.get_window_extent() for place in group] for group in axes]
        self._places = [
            [
                (slice(bottom - round(box.y1), bottom - round(box.y0)), slice(round(box.x0), round(box.x1)))
                for box in group
            ]
            for group in boxes
        ]

    def filled(self, heats: Sequence[Tensor], image: int) -> Tensor:
        """The page [height, width, 3] with one image and its heats in their places."""
        page = self._blank.clone()
        for panel, places, heat in zip(self._panels, self._places, heats, strict=True):
            for number, (rows, columns) in enumerate(places):
                size = rows.stop - rows.start, columns.stop - columns.start
                channels = rearrange(panel.images[image], "H W C -> 1 C H W")
                resized = F.interpolate(channels, size, mode="bilinear", antialias=True, align_corners=False)
                picture = rearrange(resized, "1 C H W -> H W C").clamp(0, 1)
                if number:
                    word, head = divmod(number - 1, heat.shape[2])
                    overlay = resized_maps(heat[image : image + 1, word : word + 1, head : head + 1], size)[0, 0, 0]
                    opacity = self._settings.opacity
                    picture = (1 - opacity) * picture + opacity * colored(overlay, self._settings.color_map)
                page[rows, columns] = picture
        return page


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
