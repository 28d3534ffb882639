"""Which entries of a sampler's conditioning hold the watched prompt, where in them, and which region they paint.

Leans on what samplers pass along: `guider.conds` by part, and their entries with `uuid`,
`model_conds["c_crossattn"].cond`, `area` and `mask`; the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....core_ops.captured_attention import Region, Size
from .attention_plan import PARTS, WatchedText

SAME_TEXT_TOLERANCE = 1e-3
"""Relative to the largest value of the encoding."""

Chunk = tuple[int, Any]
"""Number of the part and the entry's uuid: as the host names what it puts together to a batch."""


@dataclass(frozen=True)
class WatchedEntry:
    """One entry of the conditioning. start: of the prompt in its context of `length` tokens."""

    start: int
    length: int
    region: Region
    mask: Tensor | None


class WatchedEntries:
    """Finds the entries of one part in which a text is; remembers where, for the host hands them on in every step.

    guider: the host's; its `conds` hold the entries of each part. note: what the reader of the maps should know, or "".
    """

    def __init__(self, text: WatchedText, part: str, guider: Any) -> None:
        self.note = ""
        self._text, self._part, self._guider = text, part, guider
        self._starts: dict[Any, int | None] = {}

    def found(self, conds: Sequence[Any], latent: Size, images: int) -> dict[Chunk, WatchedEntry]:
        """The watched entries of an evaluation. conds: the entries of each part, as the host evaluates them."""
        watched: dict[Chunk, WatchedEntry] = {}
        names = {id(entries): name for name, entries in self._guider.conds.items()}
        parts = [names.get(id(entries)) for entries in conds]
        if not any(parts):  # a guider that hands on copies: then they come in the usual order
            parts = list(PARTS[: len(conds)])
        for number, name in enumerate(parts):
            listed = list(conds[number] or ()) if name == self._part else []
            starts = [self._start(entry) for entry in listed]
            if listed and all(start is None for start in starts):
                if self._text.contexts_given:
                    raise ValueError(
                        "conditioning: the sampler does not use it; connect the same one to sampler and probe."
                    )
                self.note = (
                    "The sampler's conditioning is not what this clip makes of the probe's prompt; the words are those "
                    "of the probe's prompt, by position."
                )
                starts = [0] * len(listed)
            watched |= {
                (number, entry["uuid"]): self._entry(entry, start, latent=latent, images=images)
                for entry, start in zip(listed, starts, strict=True)
                if start is not None
            }
        return watched

    def _start(self, entry: Mapping[str, Any]) -> int | None:
        """Where the watched text begins in an entry's context: at the start of a row; None when it is another text."""
        if entry["uuid"] not in self._starts:
            context = context_of(entry).float().cpu()
            self._starts[entry["uuid"]] = next(
                (
                    start
                    for text in self._text.contexts
                    if context.shape[-1] == text.shape[-1] and text.shape[0] in (1, context.shape[0])
                    for start in range(0, context.shape[1] - text.shape[1] + 1, self._text.row_length)
                    if same_text(context[:, start : start + text.shape[1]], text)
                ),
                None,
            )
        return self._starts[entry["uuid"]]

    def _entry(self, entry: Mapping[str, Any], start: int, latent: Size, images: int) -> WatchedEntry:
        """Raises ValueError when the prompt is longer than what the entry has from `start` on."""
        length = context_of(entry).shape[1]
        if start + self._text.length > length:
            raise ValueError(
                f"prompt: it has {self._text.length} tokens, the sampled conditioning {length}; give the probe "
                "the prompt that the sampler uses."
            )
        rows, columns, top, left = entry.get("area") or (*latent, 0, 0)
        height, width = min(rows, latent[0] - top), min(columns, latent[1] - left)
        mask = entry.get("mask")
        if mask is not None:
            mask = mask[:images, top : top + height, left : left + width].float().cpu()
            mask = mask.repeat(images // mask.shape[0], 1, 1)  # as the host does, where there are fewer than images
        return WatchedEntry(
            start=start,
            length=length,
            region=Region(top=top, left=left, height=height, width=width, whole=latent),
            mask=mask,
        )


def context_of(entry: Mapping[str, Any]) -> Tensor:
    """Text that cross-attention reads, [B or 1, N, D]."""
    return entry["model_conds"]["c_crossattn"].cond


def same_text(part: Tensor, text: Tensor) -> bool:
    """Whether a part [b, n, D] of a context is the text [1 or b, n, D], but for rounding."""
    tolerance = SAME_TEXT_TOLERANCE * float(text.abs().max())
    return torch.allclose(part, text.expand_as(part), rtol=0, atol=tolerance)
