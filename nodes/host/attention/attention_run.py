"""One sampling as a probe follows it, from prediction to evaluation to U-Net call, and the maps that it collects.

The host nests them: a prediction evaluates all parts, perhaps more than once, and an evaluation calls the U-Net with
one batch or several. Each is a method here, called in place of the host's own, which it calls.

Leans on `cond_or_uncond` and `uuids` of a batch, which name its chunks; the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ....core_ops.captured_attention import CapturedAttention, MapCanvas, MapLevel, word_attention
from ....core_ops.prompts.prompt_words import token_weights
from ..models.unet_layout import Layer, preferred_attentions
from .attention_plan import PARTS, WatchPlan
from .attention_replacement import Attention, host_attention, replace_attention
from .watched_entries import Chunk, WatchedEntries, WatchedEntry

PATCHED = "model: a patch on it changes the pixels or tokens of cross-attention; take it off."
TILED = (
    "model: a node on it draws the picture in parts of its own (Tiled Diffusion, for example); take it off to watch."
)


@dataclass(frozen=True)
class _Evaluation:
    """An evaluation that is followed. step: which step of the canvases its maps are added to."""

    entries: Mapping[Chunk, WatchedEntry]
    step: int


class AttentionRun:
    """Follows one sampling of latents [B, C, h, w]; raises ValueError at the start when it would take too much memory.

    guider: the host's. summary: what is watched, for the user.
    """

    def __init__(self, plan: WatchPlan, guider: Any, sigmas: Tensor, latent_shape: tuple[int, ...]) -> None:
        self._plan = plan
        self._sigmas = sigmas[:-1].float().cpu()
        self._shape = latent_shape
        self._images, self._latent = latent_shape[0], (latent_shape[-2], latent_shape[-1])
        last = min(plan.steps[-1], len(self._sigmas))
        if plan.steps[0] > last:
            raise ValueError(f"first_step: {plan.steps[0]}, but this sampling has {last} steps; lower it.")
        self._steps = range(plan.steps[0], last + 1)
        needed = plan.bytes_needed(self._latent, steps=len(self._steps), images=self._images)
        figures = f"{len(plan.text.words)} words, {len(self._steps)} steps, {self._images} pictures"
        if needed > plan.memory_limit:
            raise ValueError(
                f"memory_limit: the probe's maps would take {needed / 2**20:.0f} MiB ({figures}), the limit is "
                f"{plan.memory_limit / 2**20:.0f} MiB. Switch each_step off, name fewer words, choose coarser "
                "layers, fewer steps, heads = mean, or raise memory_limit."
            )
        self.summary = f"{needed / 2**20:.1f} MiB of maps: {figures}"
        self._canvases = {
            halvings: MapCanvas(
                steps=len(self._steps) if plan.each_step else 1,
                images=self._images,
                words=len(plan.text.words),
                heads=heads,
                size=size,
            )
            for halvings, (size, heads) in plan.canvas_sizes(self._latent).items()
        }
        self._entries = WatchedEntries(plan.text, plan.part, guider)
        self._weights: dict[Any, Tensor] = {}
        self._awaited = False
        self._evaluation: _Evaluation | None = None

    def predict(self, executor: Any, *args: Any, **more: Any) -> Any:
        """One prediction: its first evaluation of the watched part counts; later ones are a guidance method's."""
        outside = self._awaited  # of a prediction that this one is part of
        self._awaited = True
        try:
            return executor(*args, **more)
        finally:
            self._awaited = self._awaited and outside

    def evaluate(self, executor: Any, model: Any, conds: Any, x: Tensor, sigma: Tensor, *args: Any) -> Any:
        """One evaluation of latents at a sigma; the nearest of the schedule names the step. conds: of each part."""
        if not self._awaited:
            return executor(model, conds, x, sigma, *args)
        entries = self._entries.found(conds, latent=self._latent, images=self._images)
        self._awaited = not entries
        step = int((self._sigmas - float(sigma.flatten()[0])).abs().argmin()) + 1
        if entries and tuple(x.shape) == self._shape and step in self._steps:
            canvas_step = self._steps.index(step) if self._plan.each_step else 0
            self._evaluation = _Evaluation(entries, canvas_step)
        try:
            return executor(model, conds, x, sigma, *args)
        finally:
            self._evaluation = None

    def call_unet(
        self, executor: Any, x: Tensor, timesteps: Any, context: Tensor, y: Any, control: Any, options: Any, **more: Any
    ) -> Tensor:
        """One call of the U-Net, for a batch of parts and regions that the host put together."""
        if self._evaluation is None:
            return executor(x, timesteps, context, y, control, options, **more)
        # The host lays equally large chunks one after the other, named by part and entry in the same order: other
        # entries and parts stand in the same batch, and the place is all that tells whose rows are whose.
        chunks = list(zip(options["cond_or_uncond"], options["uuids"], strict=True))
        watched = {
            number: self._evaluation.entries[chunk]
            for number, chunk in enumerate(chunks)
            if chunk in self._evaluation.entries
        }
        sizes = {(entry.region.height, entry.region.width) for entry in watched.values()}
        if watched and (x.shape[0] != len(chunks) * self._images or sizes != {(x.shape[-2], x.shape[-1])}):
            raise ValueError(TILED)
        preferred = preferred_attentions(executor.class_obj)
        step = self._evaluation.step

        def tapped(layer: Layer, patched: Attention | None) -> Attention:
            def attention(q: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any]) -> Tensor:
                with torch.no_grad():
                    for number, entry in watched.items():
                        rows = slice(number * self._images, (number + 1) * self._images)
                        weights = self._word_weights(entry, context.shape[1], keys=k)
                        maps = self._maps(q[rows], k[rows], weights=weights, extra=extra)
                        canvas = self._canvases[self._plan.layers[layer].halvings]
                        canvas.add(step, maps, region=entry.region, mask=entry.mask)
                if patched is None:
                    return host_attention(q, k, v, extra=extra, preferred=preferred.get(layer))
                return patched(q, k, v, extra)

            return attention

        if watched:
            options = replace_attention(options, self._plan.layers, tapped)
        return executor(x, timesteps, context, y, control, options, **more)

    def captured(self) -> CapturedAttention | None:
        """The maps, or None when nothing was noted."""
        canvases = list(self._canvases.values())
        seen = [number for number, weights in enumerate(canvases[0].weights) if bool(weights.any())]
        if not seen:
            return None
        layers = Counter(place.halvings for place in self._plan.layers.values())
        whole = len(seen) == len(canvases[0].weights)
        return CapturedAttention(
            prompt=self._plan.text.prompt,
            words=self._plan.text.words,
            levels=tuple(
                MapLevel(
                    sums=canvas.sums if whole else canvas.sums[seen],
                    weights=canvas.weights if whole else canvas.weights[seen],
                    layers=layers[halvings],
                )
                for halvings, canvas in self._canvases.items()
            ),
            steps=tuple(self._steps[number] for number in seen),
            note=self._entries.note,
        )

    def why_empty(self) -> str:
        """A sentence for the user."""
        if self._plan.part == PARTS[1]:
            return (
                "the sampling had no unconditional part; ComfyUI leaves it out at CFG 1. Raise cfg or watch the other."
            )
        return (
            "the sampling did not use the watched prompt in the watched steps; watch others, with ComfyUI's samplers."
        )

    def _maps(self, q: Tensor, k: Tensor, weights: Tensor, extra: Mapping[str, Any]) -> Tensor:
        """One layer's maps of an entry's rows, [B, T, H, h, w] in main memory. weights: see `_word_weights`."""
        height, width = extra["activations_shape"][-2:]
        if q.shape[1] != height * width:
            raise ValueError(PATCHED)
        maps = word_attention(q, k, heads=extra["n_heads"], weights=weights, each_head=self._plan.each_head)
        return rearrange(maps.cpu(), "B T H (h w) -> B T H h w", h=height)

    def _word_weights(self, entry: WatchedEntry, text_length: int, keys: Tensor) -> Tensor:
        """[N, words] for a layer's keys [B, N, D], the first `text_length` of which are the batch's text.

        Tokens that another patch appends to the text belong to no word. Made once for all layers and steps.
        """
        count = keys.shape[1]
        if count < text_length:
            raise ValueError(PATCHED)
        made_for = entry.start, entry.length, text_length, count, keys.device
        if made_for not in self._weights:
            words = self._plan.text.words
            weights = torch.zeros(count, len(words))
            weights[:text_length] = token_weights(words, keys=text_length, period=entry.length, start=entry.start)
            self._weights[made_for] = weights.to(keys.device)
        return self._weights[made_for]
