"""A sheet of attention maps: a row per probe, a column per word, as CoRe's Figure 2 has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core_ops.captured_attention import CapturedAttention, relative_maps, resized_maps
from ...core_ops.prompts.aligned_words import aligned
from ...core_ops.quoting import quoted, shortened
from ..charts import as_image, colored, new_figure
from .attention_settings import ALL_WORDS, OCCURRENCE, SheetSettings

CELL, NAME_WIDTH, HEAD_HEIGHT, LABEL_HEIGHT = 112, 150, 34, 26
LETTERS = 17
"""Of a name in its place."""


@dataclass(frozen=True)
class SheetRow:
    """name: at its left. picture: [H, W, 3] in 0…1, or None. maps: of the prompt's words, [T, h, w], and their shares
    [T]."""

    name: str
    labels: tuple[str, ...]
    maps: Tensor
    shares: Tensor
    picture: Tensor | None

    @classmethod
    def of(cls, name: str, captured: CapturedAttention, image: int, picture: Tensor | None) -> SheetRow:
        """Of one image of a probe, averaged over heads."""
        words = [number for number, word in enumerate(captured.words) if word.in_prompt]
        return cls(
            name,
            tuple(captured.words[number].label for number in words),
            captured.maps()[image, words].mean(dim=1),
            captured.shares()[image, words],
            picture,
        )


@dataclass(frozen=True)
class Sheet:
    """columns: per row the word's number, or None."""

    rows: tuple[SheetRow, ...]
    columns: tuple[tuple[int | None, ...], ...]

    @classmethod
    def of(cls, rows: Sequence[SheetRow], names: Sequence[str]) -> Sheet:
        """Words of all rows in columns; names: those wanted, in any row; empty: all. Raises ValueError for another."""
        columns = [tuple(column) for column in aligned([row.labels for row in rows])]
        if not names:
            return cls(tuple(rows), tuple(columns))
        called = [
            {
                part.casefold()
                for row, word in zip(rows, column, strict=True)
                if word is not None
                for part in (row.labels[word], OCCURRENCE.sub("", row.labels[word]))
            }
            for column in columns
        ]
        for name in names:
            if not any(name.casefold() in column for column in called):
                there = ", ".join(dict.fromkeys(label for row in rows for label in row.labels))
                raise ValueError(
                    f"words: {quoted(name)} is in no row. The words that are: {shortened(there)}. Write some of those."
                )
        wanted = {name.casefold() for name in names}
        kept = [column for column, parts in zip(columns, called, strict=True) if parts & wanted]
        return cls(tuple(rows), tuple(kept))

    @property
    def header(self) -> list[str]:
        """What each column is called: its different words."""
        pairs = (zip(self.rows, column, strict=True) for column in self.columns)
        called = ((row.labels[word] for row, word in column if word is not None) for column in pairs)
        return [" / ".join(dict.fromkeys(name.removeprefix("embedding:") for name in names)) for names in called]

    def table(self) -> list[list[str]]:
        """Per row its name and every word's share."""
        return [
            [row.name, *("" if column[number] is None else f"{float(row.shares[column[number]]):.4f}"
                         for column in self.columns)]
            for number, row in enumerate(self.rows)
        ]  # fmt: skip

    def heats(self, scale: str) -> list[list[Tensor | None]]:
        """By row and column the map in 0…1: of its column's maximum over all rows, or of the sheet's."""
        peaks = [
            max(float(row.maps[word].max()) for row, word in zip(self.rows, column, strict=True) if word is not None)
            for column in self.columns
        ]
        if scale == ALL_WORDS:
            peaks = [max(peaks)] * len(peaks)
        return [
            [
                None
                if column[number] is None
                else relative_maps(row.maps[column[number]][None, None, None], torch.tensor(peak))[0, 0, 0]
                for column, peak in zip(self.columns, peaks, strict=True)
            ]
            for number, row in enumerate(self.rows)
        ]


def draw_sheet(sheet: Sheet, settings: SheetSettings) -> Tensor:
    """Names, pictures where there are any, and maps, each with its share below it, [1, H, W, 3]."""
    with_pictures = any(row.picture is not None for row in sheet.rows)
    columns = len(sheet.columns) + with_pictures
    width = NAME_WIDTH + CELL * columns
    height = HEAD_HEIGHT + (CELL + LABEL_HEIGHT) * len(sheet.rows)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    figure.patch.set_facecolor("white")
    for number, title in enumerate(["picture"] * with_pictures + sheet.header):
        left = (NAME_WIDTH + CELL * (number + 0.5)) / width
        text = shortened(title, LETTERS)
        figure.text(left, 1 - HEAD_HEIGHT / 2 / height, text, ha="center", va="center", fontsize=9, parse_math=False)
    for number, (row, heats) in enumerate(zip(sheet.rows, sheet.heats(settings.scale), strict=True)):
        top = HEAD_HEIGHT + (CELL + LABEL_HEIGHT) * number
        figure.text(
            *(10 / width, 1 - (top + CELL / 2) / height, shortened(row.name, LETTERS)),
            **{"va": "center", "fontsize": 11, "parse_math": False},
        )
        cells = [colored(_fitted(heat), settings.color_map) if heat is not None else None for heat in heats]
        below = [f"{float(row.shares[column[number]]):.1%}" if column[number] is not None else ""
                 for column in sheet.columns]  # fmt: skip
        pictures = [row.picture] if with_pictures else []
        for place, (shown, text) in enumerate(zip([*pictures, *cells], [""] * with_pictures + below, strict=True)):
            if shown is not None:
                left = (NAME_WIDTH + CELL * place + 4) / width
                axes = figure.add_axes((left, 1 - (top + CELL) / height, (CELL - 8) / width, (CELL - 8) / height))
                axes.imshow(shown.numpy())
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                axes.set_xlabel(text, fontsize=8, labelpad=3)
    return as_image(figure)


def _fitted(heat: Tensor) -> Tensor:
    """A map [h, w] at the size of a cell, without steps between its pixels."""
    scale = CELL / max(heat.shape)
    size = max(1, round(heat.shape[0] * scale)), max(1, round(heat.shape[1] * scale))
    return resized_maps(heat[None, None, None], size)[0, 0, 0].clamp(0, 1)
