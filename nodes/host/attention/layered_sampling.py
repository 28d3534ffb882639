"""A prompt that each layer of the U-Net reads in its own way, perhaps at each timestep, in any of the host's samplers.

The CONDITIONING is that of the concept's mean, with a mark. Wrappers on the MODEL find the mark in what is sampled,
encode the prompt for all layers and timesteps of a sampling before it begins, and patch each call of the U-Net.

Leans on entries of a CONDITIONING, which keep their values where the host's nodes change them and share one text where
the host copies them for another part's area, and on `cond_or_uncond` and `uuids` of a batch, which name its chunks; the
same in all hosts since 0.28.0.
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
from ..models.device_memory import free_for_copies
from ..models.module_copy import autograd_mode
from ..models.text_encoder import HostTextEncoder
from ..models.unet_layout import attention_blocks
from .attention_replacement import with_layer_contexts
from .sampling_wrappers import EVALUATION, SAMPLING, UNET_CALL, with_wrappers
from .watched_entries import Chunk, context_of, same_text

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
PARTED = (
    "model: a node on it hands the U-Net a batch of its own, in which nobody can tell whose text is whose. Connect the "
    "model from before that node."
)


class LayeredSampling:
    """row: the prompt, with slots where the concept is."""

    def __init__(self, clip: CLIP, embedding: SpaceTimeEmbedding, row: TokenRow) -> None:
        self._clip, self._embedding, self._row = clip, embedding, row
        self._mark = uuid.uuid4().hex
        self._texts: dict[float, tuple[Tensor, Tensor]] = {}
        self._marked: dict[Chunk, int] = {}
        """Of the entries with this text: how many tokens they have."""
        self._whole: dict[int, tuple[Tensor, bool]] = {}
        """By a text's identity, whether it is this one."""
        self._images = 0
        self._used: set[float] = set()
        self._between: HostTextEncoder | None = None
        """Of a sampler that looks between its steps, for the rest of a sampling."""
        encoder = self._encoder()
        with autograd_mode(), torch.no_grad():
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
        self._images, self._whole = noise.shape[0], {}
        levels = guider.model_patcher.get_model_object("model_sampling").timestep(sigmas[:-1])
        self._used = {float(t) for t in levels} if self._embedding.timed else {ALWAYS}
        if missing := sorted(self._used - self._texts.keys()):
            free_for_copies(self._clip.patcher, self._clip.patcher.load_device)
            self._keep(self._encoder(), missing)
        try:
            return executor(noise, latent, sampler, sigmas, *args, **more)
        finally:
            self._between = None
            self._texts = {t: text for t, text in self._texts.items() if t in self._used}

    def _is_marked(self, entry: Mapping[str, Any]) -> bool:
        return entry.get(MARK) == self._mark

    def _is_whole(self, context: Tensor) -> bool:
        begin = context[:, : self._context.shape[1]].float().cpu()
        return begin.shape[1:] == self._context.shape[1:] and same_text(begin, self._context)

    def _text_at(self, t: float) -> tuple[Tensor, Tensor]:
        if t not in self._texts:  # of a sampler that looks between its steps
            self._between = self._between or self._encoder()
            self._keep(self._between, [t])
        self._used.add(t)
        return self._texts[t]

    def _encoder(self) -> HostTextEncoder:
        with autograd_mode():
            return HostTextEncoder(self._clip)

    def _keep(self, encoder: HostTextEncoder, times: Sequence[float]) -> None:
        with autograd_mode(), torch.no_grad():
            for t in times:
                keys, values = self._embedding.contexts(encoder, [self._row], torch.tensor([t]))
                self._texts[t] = keys.cpu(), values.cpu()

    def _evaluate(self, executor: Any, model: Any, conds: Any, *args: Any, **more: Any) -> Any:
        """The host copies an entry with an area into the other part: with its mark and that part's text, or the other
        way round. So the text tells, and the part is a part of the name."""
        entries = [((part, entry["uuid"]), entry) for part, listed in enumerate(conds) for entry in listed or ()]
        own = {id(context_of(entry)) for _, entry in entries if self._is_marked(entry) and self._has_text(entry)}
        self._marked = {chunk: context_of(entry).shape[1] for chunk, entry in entries if id(context_of(entry)) in own}
        return executor(model, conds, *args, **more)

    def _has_text(self, entry: Mapping[str, Any]) -> bool:
        text = context_of(entry)
        if id(text) not in self._whole:
            self._whole[id(text)] = text, self._is_whole(text)
        return self._whole[id(text)][1]

    def _call_unet(
        self, executor: Any, x: Tensor, timesteps: Tensor, context: Tensor, y: Any, control: Any, options: Any,
        **more: Any,
    ) -> Tensor:  # fmt: skip
        chunks = list(zip(options["cond_or_uncond"], options["uuids"], strict=True))
        # A node that draws by tiles gives several of them at once, each with all chunks.
        tiles, rest = divmod(x.shape[0], len(chunks) * self._images)
        if rest:
            raise ValueError(PARTED)
        for number, chunk in enumerate(chunks * tiles):
            if chunk in self._marked:
                rows = slice(number * self._images, (number + 1) * self._images)
                t = float(timesteps[rows.start]) if self._embedding.timed else ALWAYS
                options = with_layer_contexts(options, self._blocks, self._text_at(t), rows, self._marked[chunk])
        return executor(x, timesteps, context, y, control, options, **more)
