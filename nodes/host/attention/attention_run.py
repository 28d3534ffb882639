"""One sampling as a probe follows it: which rows of which batch belong to the watched prompt, and their maps.

Leans on what samplers pass along: `guider.conds` by part, their entries with `uuid`, `model_conds["c_crossattn"].cond`,
`area` and `mask`, and `cond_or_uncond` and `uuids` of a batch; the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ....core_ops.attention_maps import (
    CapturedAttention,
    MapCanvas,
    MapLevel,
    Region,
    Size,
    canvas_bytes,
    word_attention,
)
from ....core_ops.prompts.prompt_words import WatchedWord, token_weights
from ..models.unet_layout import Layer, LayerPlace

SAME_TEXT_TOLERANCE = 1e-3
PARTS = ("positive", "negative")
"""The host's names of the conditional and the unconditional part, in the order in which it hands them on."""


@dataclass(frozen=True)
class WatchPlan:
    """What a probe watches.

    contexts: text encodings [1 or b, n, D] that mark the conditioning entries to watch; other entries are not.
    contexts_given: the user connected them, so one of them must be sampled with. row_length: tokens of a row.
    part: "positive" or "negative". memory_limit: bytes.
    """

    prompt: str
    words: tuple[WatchedWord, ...]
    prompt_length: int
    row_length: int
    contexts: tuple[Tensor, ...]
    contexts_given: bool
    layers: Mapping[Layer, LayerPlace]
    part: str
    first_step: int
    last_step: int
    each_step: bool
    each_head: bool
    memory_limit: int

    def canvas_sizes(self, latent: Size) -> dict[int, tuple[Size, int]]:
        """Size and heads of the canvas for each number of halvings, from fine to coarse."""
        return {
            place.halvings: (halved(latent, place.halvings), place.heads if self.each_head else 1)
            for place in sorted(self.layers.values(), key=lambda place: place.halvings)
        }

    def bytes_needed(self, latent: Size, steps: int, images: int) -> int:
        """Main memory that the maps of a sampling take."""
        kept = steps if self.each_step else 1
        return canvas_bytes(list(self.canvas_sizes(latent).values()), kept, images, len(self.words))


def halved(size: Size, times: int) -> Size:
    """The host's U-Net rounds up when it halves."""
    divisor = 2**times
    return (-(-size[0] // divisor), -(-size[1] // divisor))


@dataclass(frozen=True)
class _Entry:
    """One entry of the conditioning. start: of the prompt in its context of `length` tokens."""

    start: int
    length: int
    region: Region
    mask: Tensor | None


class AttentionRun:
    """Follows one sampling of latents [B, C, h, w]; raises ValueError at the start when it would take too much memory.

    guider: the host's; its `conds` hold the entries of each part.
    """

    def __init__(self, plan: WatchPlan, guider: Any, sigmas: Tensor, latent_shape: tuple[int, ...]) -> None:
        self.plan = plan
        self.awaiting = False
        self._guider = guider
        self._sigmas = sigmas[:-1].float().cpu()
        self._shape = latent_shape
        last = min(plan.last_step, len(self._sigmas))
        if plan.first_step > last:
            raise ValueError(f"first_step: {plan.first_step}, but this sampling has {last} steps; lower it.")
        self._steps = range(plan.first_step, last + 1)
        images, (height, width) = latent_shape[0], latent_shape[-2:]
        self.summary = self._check_memory((height, width), images)
        kept = len(self._steps) if plan.each_step else 1
        self._canvases = {
            halvings: MapCanvas(kept, images, len(plan.words), heads, size)
            for halvings, (size, heads) in plan.canvas_sizes((height, width)).items()
        }
        self._starts: dict[Any, int | None] = {}
        self._weights: dict[Any, Tensor] = {}
        self._evaluation: tuple[dict[tuple[int, Any], _Entry], int] | None = None
        self._note = ""

    def _check_memory(self, latent: Size, images: int) -> str:
        needed = self.plan.bytes_needed(latent, len(self._steps), images)
        figures = f"{len(self.plan.words)} words, {len(self._steps)} steps, {images} pictures"
        if needed > self.plan.memory_limit:
            raise ValueError(
                f"memory_limit: the probe's maps would take {needed / 2**20:.0f} MiB ({figures}), the limit is "
                f"{self.plan.memory_limit / 2**20:.0f} MiB. Switch each_step off, name fewer words, choose coarser "
                "layers, fewer steps, heads = mean, or raise memory_limit."
            )
        return f"{needed / 2**20:.1f} MiB of maps: {figures}"

    def begin_evaluation(self, conds: Sequence[Any], x: Tensor, sigma: float) -> bool:
        """Whether the watched part is in it.

        conds: the entries of each part. x: latents at `sigma`; the nearest of the schedule names the step.
        """
        step = int((self._sigmas - sigma).abs().argmin()) + 1
        entries = self._entries(conds)
        if entries and tuple(x.shape) == self._shape and step in self._steps:
            self._evaluation = entries, (step - self._steps[0] if self.plan.each_step else 0)
        return bool(entries)

    def end_evaluation(self) -> None:
        self._evaluation = None

    def watched_call(self, x: Tensor, context: Tensor, options: Mapping[str, Any]) -> WatchedCall | None:
        """What to note of a batch of the U-Net; None when no row of it is watched."""
        if self._evaluation is None:
            return None
        entries, step = self._evaluation
        chunks = list(zip(options["cond_or_uncond"], options["uuids"], strict=True))
        watched = {number: entries[chunk] for number, chunk in enumerate(chunks) if chunk in entries}
        return WatchedCall(self, watched, x.shape[0] // len(chunks), context.shape[1], step) if watched else None

    def captured(self) -> CapturedAttention | None:
        """The maps, or None when nothing was noted."""
        canvases = list(self._canvases.values())
        seen = [number for number, weights in enumerate(canvases[0].weights) if bool(weights.any())]
        if not seen:
            return None
        counts = Counter(place.halvings for place in self.plan.layers.values())
        whole = len(seen) == len(canvases[0].weights)
        levels = tuple(
            MapLevel(
                canvas.sums if whole else canvas.sums[seen],
                canvas.weights if whole else canvas.weights[seen],
                counts[halvings],
            )
            for halvings, canvas in self._canvases.items()
        )
        steps = tuple(self._steps[number] for number in seen)
        return CapturedAttention(self.plan.prompt, self.plan.words, levels, steps, self._note)

    def why_empty(self) -> str:
        """A sentence for the user."""
        if self.plan.part == PARTS[1]:
            return (
                "the sampling had no unconditional part; ComfyUI leaves it out at CFG 1. Raise cfg or watch the other."
            )
        return "the sampling did not use the watched prompt in the watched steps; watch others, with a core sampler."

    def add(self, halvings: int, step: int, maps: Tensor, entry: _Entry) -> None:
        self._canvases[halvings].add(step, maps, entry.region, entry.mask)

    def word_weights(self, entry: _Entry, context: int, k: Tensor) -> Tensor:
        """[N, words] for the keys k [B, N, D] of a layer, the first `context` of which are the batch's text.

        Tokens that another patch appends to the text belong to no word. Made once for all layers and steps.
        """
        made_for = entry.start, entry.length, context, k.shape[1], k.device
        if made_for not in self._weights:
            weights = torch.zeros(k.shape[1], len(self.plan.words))
            weights[:context] = token_weights(self.plan.words, context, entry.length, entry.start)
            self._weights[made_for] = weights.to(k.device)
        return self._weights[made_for]

    def _entries(self, conds: Sequence[Any]) -> dict[tuple[int, Any], _Entry]:
        """By part's number and entry's id, as the host names the chunks of a batch."""
        found: dict[tuple[int, Any], _Entry] = {}
        for part in self._watched_parts(conds):
            listed = list(conds[part] or ())
            starts = {entry["uuid"]: self._start(entry) for entry in listed}
            if listed and all(start is None for start in starts.values()):
                starts = dict.fromkeys(starts, self._start_of_unknown())
            found |= {
                (part, entry["uuid"]): self._entry(entry, start)
                for entry in listed
                if (start := starts[entry["uuid"]]) is not None
            }
        return found

    def _watched_parts(self, conds: Sequence[Any]) -> list[int]:
        names = {id(entries): name for name, entries in self._guider.conds.items()}
        parts = [names.get(id(entries)) for entries in conds]
        if any(parts):
            return [number for number, name in enumerate(parts) if name == self.plan.part]
        number = PARTS.index(self.plan.part)
        return [number] if number < len(conds) else []

    def _start(self, entry: Mapping[str, Any]) -> int | None:
        """Where the watched text begins in an entry's context, or None when it is another text."""
        if entry["uuid"] not in self._starts:
            context = _context(entry).float().cpu()
            starts = (_find(context, text, self.plan.row_length) for text in self.plan.contexts)
            self._starts[entry["uuid"]] = next((start for start in starts if start is not None), None)
        return self._starts[entry["uuid"]]

    def _start_of_unknown(self) -> int:
        if self.plan.contexts_given:
            raise ValueError("conditioning: the sampler does not use it; connect the same one to sampler and probe.")
        self._note = (
            "The sampler's conditioning is not what this clip makes of the probe's prompt; the words are those of "
            "the probe's prompt, by position."
        )
        return 0

    def _entry(self, entry: Mapping[str, Any], start: int) -> _Entry:
        length = _context(entry).shape[1]
        if start + self.plan.prompt_length > length:
            raise ValueError(
                f"prompt: it has {self.plan.prompt_length} tokens, the sampled conditioning {length}; give the probe "
                "the prompt that the sampler uses."
            )
        height, width = self._shape[-2:]
        rows, columns, top, left = entry.get("area") or (height, width, 0, 0)
        region = Region(top, left, min(rows, height - top), min(columns, width - left), (height, width))
        mask = entry.get("mask")
        if mask is not None:
            mask = mask[..., region.top : region.top + region.height, region.left : region.left + region.width]
            mask = mask[: self._shape[0]].float().cpu()
        return _Entry(start, length, region, mask)


@dataclass(frozen=True)
class WatchedCall:
    """One call of the U-Net. entries: by number of the chunk; a chunk is `images` rows. keys: tokens of the context."""

    run: AttentionRun
    entries: Mapping[int, _Entry]
    images: int
    keys: int
    step: int

    def note(self, layer: Layer, q: Tensor, k: Tensor, extra: Mapping[str, Any]) -> None:
        """Adds one layer's maps to the run's canvases, in main memory."""
        plan = self.run.plan
        height, width = extra["activations_shape"][-2:]
        if q.shape[1] != height * width or k.shape[1] < self.keys:
            raise ValueError("model: a patch on it changes the pixels or tokens of cross-attention; take it off.")
        for number, entry in self.entries.items():
            rows = slice(number * self.images, (number + 1) * self.images)
            weights = self.run.word_weights(entry, self.keys, k)
            maps = word_attention(q[rows], k[rows], extra["n_heads"], weights, plan.each_head)
            maps = rearrange(maps.cpu(), "B T H (h w) -> B T H h w", h=height)
            self.run.add(plan.layers[layer].halvings, self.step, maps, entry)


def _context(entry: Mapping[str, Any]) -> Tensor:
    """Text that cross-attention reads, [B or 1, N, D]."""
    return entry["model_conds"]["c_crossattn"].cond


def _find(context: Tensor, text: Tensor, row_length: int) -> int | None:
    """Where `text` [1 or b, n, D] begins in a context [b, N, D], at the start of a row; None when it is not in it."""
    if context.shape[-1] != text.shape[-1] or text.shape[0] not in (1, context.shape[0]):
        return None
    tolerance = SAME_TEXT_TOLERANCE * float(text.abs().max())
    for start in range(0, context.shape[1] - text.shape[1] + 1, row_length):
        part = context[:, start : start + text.shape[1]]
        if torch.allclose(part, text.expand_as(part), rtol=0, atol=tolerance):
            return start
    return None
