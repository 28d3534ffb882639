"""A prompt that each layer of the U-Net reads in its own way, perhaps at each timestep, in any of the host's samplers.

The CONDITIONING is that of the concept's mean, with a mark. Wrappers on the MODEL find the mark in what is sampled,
encode the prompt for all layers and timesteps of a sampling before it begins, and patch each call of the U-Net.

Leans on entries of a CONDITIONING, which keep their values where the host's nodes change them, and on `uuids` of a
batch, which name its chunks; the same in all hosts since 0.28.0.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ....core_ops.prompts.token_rows import TokenRow
from ....core_ops.space_time.space_time_embedding import SpaceTimeEmbedding
from ..models.denoiser import unet_of
from ..models.module_copy import autograd_mode
from ..models.text_encoder import HostTextEncoder
from ..models.unet_layout import attention_blocks
from .attention_replacement import with_layer_contexts
from .sampling_wrappers import EVALUATION, SAMPLING, UNET_CALL, with_wrappers
from .watched_entries import context_of, same_text

MARK = "core_concept"
ALWAYS = 0.0
"""In place of a timestep, of texts that are the same at all."""
UNUSED = (
    "conditioning: this sampling does not use that of Apply Concept; connect both its model and its conditioning to "
    "the sampler, or the model from before it."
)
CHANGED = (
    "conditioning: another node changed the text of Apply Concept, whose layers read one of their own; connect it to "
    "the sampler as it is. Areas, masks and combining are fine."
)


class LayeredSampling:
    """row: the prompt, with slots where the concept is."""

    def __init__(self, clip: CLIP, embedding: SpaceTimeEmbedding, row: TokenRow) -> None:
        self._clip, self._embedding, self._row = clip, embedding, row
        self._mark = uuid.uuid4().hex
        self._texts: dict[float, tuple[Tensor, Tensor]] = {}
        self._marked: dict[Any, int] = {}
        """Of the entries with this text: how many tokens they have."""
        with autograd_mode(), torch.no_grad():
            encoder = HostTextEncoder(clip)
            text = encoder.encode([row], embedding.vectors)
            self._context = text.context.cpu()
            self._pooled = None if text.pooled is None else text.pooled.cpu()
            if not embedding.timed:
                self._keep(encoder, [ALWAYS])

    @property
    def conditioning(self) -> list[list[Any]]:
        """For any sampler, with the model that `attach` returned."""
        return [[self._context, {"pooled_output": self._pooled, MARK: self._mark}]]

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the MODEL in which each layer reads its own text where the conditioning is this one; raises
        ValueError where it has another number of layers."""
        blocks = attention_blocks(unet_of(model))
        if len(blocks) != self._embedding.layers:
            raise ValueError(
                f"concept: it was learned for {self._embedding.layers} layers, this model has {len(blocks)}; load the "
                "base model that it was learned on."
            )
        self._blocks = blocks
        wrappers = {SAMPLING: self._sample, EVALUATION: self._evaluate, UNET_CALL: self._call_unet}
        return with_wrappers(model, f"core_layers_{self._mark}", wrappers)

    def _sample(
        self, executor: Any, noise: Tensor, latent: Any, sampler: Any, sigmas: Tensor, *args: Any, **more: Any
    ) -> Tensor:
        """Encodes before the U-Net takes the memory."""
        guider = executor.class_obj
        marked = [entry for entries in guider.conds.values() for entry in entries if self._is_marked(entry)]
        if not marked:
            raise ValueError(UNUSED)
        if not all(self._is_whole(entry["cross_attn"]) for entry in marked):
            raise ValueError(CHANGED)
        levels = guider.model_patcher.get_model_object("model_sampling").timestep(sigmas[:-1])
        self._encode([float(t) for t in levels])
        return executor(noise, latent, sampler, sigmas, *args, **more)

    def _is_marked(self, entry: Mapping[str, Any]) -> bool:
        return entry.get(MARK) == self._mark

    def _is_whole(self, context: Tensor) -> bool:
        begin = context[:, : self._context.shape[1]].float().cpu()
        return begin.shape[1:] == self._context.shape[1:] and same_text(begin, self._context)

    def _encode(self, times: Sequence[float]) -> None:
        """At those where it is not there yet."""
        if missing := sorted({*times} - self._texts.keys()) if self._embedding.timed else []:
            with autograd_mode(), torch.no_grad():
                self._keep(HostTextEncoder(self._clip), missing)

    def _keep(self, encoder: HostTextEncoder, times: Sequence[float]) -> None:
        for t in times:
            keys, values = self._embedding.contexts(encoder, [self._row], torch.tensor([t]))
            self._texts[t] = keys.cpu(), values.cpu()

    def _evaluate(self, executor: Any, model: Any, conds: Any, *args: Any, **more: Any) -> Any:
        marked = (entry for entries in conds for entry in entries or () if self._is_marked(entry))
        self._marked = {entry["uuid"]: context_of(entry).shape[1] for entry in marked}
        return executor(model, conds, *args, **more)

    def _call_unet(
        self, executor: Any, x: Tensor, timesteps: Tensor, context: Tensor, y: Any, control: Any, options: Any,
        **more: Any,
    ) -> Tensor:  # fmt: skip
        chunks = options["uuids"]
        images = x.shape[0] // len(chunks)
        for number, chunk in enumerate(chunks):
            if chunk in self._marked:
                rows = slice(number * images, (number + 1) * images)
                t = float(timesteps[rows.start]) if self._embedding.timed else ALWAYS
                self._encode([t])  # of a sampler that looks between its steps
                options = with_layer_contexts(options, self._blocks, self._texts[t], rows, self._marked[chunk])
        return executor(x, timesteps, context, y, control, options, **more)
