"""A host CLIP behind the `TextEncoder` interface of core_ops: SD1 (CLIP-L), SD2 (OpenCLIP-H), SDXL (CLIP-L and -G)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.lora
import torch
from comfy.clip_model import CLIPLayer
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from comfy.sd1_clip import SDClipModel
from torch import Tensor, nn

from ....core_ops.conditioning import Embedding, TextConditioning
from ....core_ops.prompts.token_rows import ConceptSlot, TokenRow
from ....core_ops.space_time.neural_mapper import with_bypass
from ....core_ops.weights.stored_weights import cast_frozen
from .module_copy import HostWeights, frozen_copy, stays_stored, validate_copyable

if TYPE_CHECKING:
    from ....core_ops.weights.trainable_weights import TrainableWeights
    from .trainable_unet import WeightChoice

ENCODERS = ("clip_l", "clip_h", "clip_g")
"""The host's names, in the order in which it concatenates their outputs."""


def encoder_names(clip: CLIP) -> tuple[str, ...]:
    """Names of the text encoders of a CLIP; raises ValueError when it holds others than CLIP's."""
    modules = {name for name, module in clip.cond_stage_model.named_children() if isinstance(module, SDClipModel)}
    names = tuple(name for name in ENCODERS if name in modules)
    if not names or modules != set(names):
        kind = type(clip.cond_stage_model).__name__
        raise ValueError(f"clip: {kind} is not the text encoder of a Stable Diffusion 1.x, 2.x or XL model; load one.")
    return names


def encoder_widths(clip: CLIP) -> dict[str, int]:
    """Width of the input embeddings of each text encoder."""
    encoders: dict[str, Any] = {name: getattr(clip.cond_stage_model, name) for name in encoder_names(clip)}
    return {name: module.transformer.get_input_embeddings().weight.shape[1] for name, module in encoders.items()}


def validate_clip(clip: CLIP, model: ModelPatcher) -> None:
    """Raises ValueError unless the text encoders can be copied, and belong to the model."""
    validate_copyable("clip", clip.patcher)
    validate_width(clip, model)


def validate_width(clip: CLIP, model: ModelPatcher) -> None:
    """Raises ValueError unless the text encoders' output is as wide as the U-Net's cross-attention reads."""
    width = sum(encoder_widths(clip).values())
    needed = model.model.model_config.unet_config["context_dim"]
    if width != needed:
        raise ValueError(
            f"clip: its text is {width} wide, this {type(model.model).__name__} reads {needed}; "
            "connect the text encoder that belongs to the model."
        )


def host_outputs(clip: CLIP, row: TokenRow) -> TextConditioning:
    """What the host's CLIP makes of a row without slots, on the CPU; prompt weights are not applied."""
    widths = encoder_widths(clip)
    tokens = {name.removeprefix("clip_"): [[(token, 1.0) for token in row.tokens[name]]] for name in widths}
    context: Tensor = clip.encode_from_tokens(tokens).float().cpu()
    return TextConditioning(dict(zip(widths, context.split(list(widths.values()), dim=-1), strict=True)), context)


def word_vectors(clip: CLIP, tokens: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Input embeddings [n, width] of vocabulary ids, in the order of `encoder_names`, in fp32 on the CPU."""
    weights = HostWeights(clip.patcher)
    weights.have_unloaded()
    vectors: dict[str, Tensor] = {}
    for name, ids in zip(encoder_names(clip), tokens, strict=True):
        vocabulary = getattr(clip.cond_stage_model, name).transformer.get_input_embeddings()
        (place,) = (path for path, module in weights.module.named_modules() if module is vocabulary)
        vectors[name] = weights.read(f"{place}.weight", torch.device("cpu"))[list(ids)].float()
    return vectors


class _DifferentiableLayer(CLIPLayer):
    """The host's layer adds its residuals in place, over values that the backward pass needs."""

    def forward(self, x, mask=None, optimized_attention=None):
        x = x + self.self_attn(self.layer_norm1(x), mask, optimized_attention)
        return x + self.mlp(self.layer_norm2(x))


class HostTextEncoder:
    """A copy of a CLIP's encoders, differentiable in a row's vectors and in what is trained; computes in fp32 like the
    host.

    device: where it computes, the host's own place by default; `meta` for a rehearsal. on_device: the one that a
    rehearsal stands for. trained: in which form its layers are trained, None for frozen.
    """

    trainable: TrainableWeights | None = None

    def __init__(
        self,
        clip: CLIP,
        device: torch.device | None = None,
        on_device: torch.device | None = None,
        trained: WeightChoice | None = None,
    ) -> None:
        self.names = encoder_names(clip)
        self.device = device = device or clip.patcher.load_device
        self.host_weights = HostWeights(clip.patcher)
        self.module = model = frozen_copy(self.host_weights, lambda _: device)
        model.reset_clip_options()
        if clip.layer_idx is not None:
            model.set_clip_options({"layer": clip.layer_idx})
        model.set_clip_options({"execution_device": self.device})
        vocabularies = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        for module in model.modules():
            if isinstance(module, CLIPLayer):
                module.__class__ = _DifferentiableLayer
        # The host computes in fp32. Not the vocabulary, of which a prompt reads some rows only.
        stays = partial(stays_stored, device=on_device or device, dtype=torch.float32)
        self._encoders: dict[str, SDClipModel] = {name: getattr(model, name) for name in self.names}
        self._norms = {name: _taken_apart(encoder) for name, encoder in self._encoders.items()}
        if trained is None:
            cast_frozen(model, torch.float32, stays=stays, untouched=vocabularies)
        else:
            names, compute = layer_weights(self._encoders), (device, torch.float32)
            self.trainable = trained.apply(model, names, compute=compute, stays=stays, untouched=vocabularies)

    def release(self) -> None:
        """Gives its memory back, when every prompt has been encoded."""
        self.module, self._encoders, self._norms = nn.Module(), {}, {}

    @property
    def widths(self) -> dict[str, int]:
        """Width of each encoder's input embeddings."""
        return {name: self._vocabulary(name).shape[1] for name in self.names}

    def word_embeddings(self, tokens: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """Input embeddings [n, width] of vocabulary ids, per encoder."""
        return {name: self._vocabulary(name)[list(ids)].float().clone() for name, ids in tokens.items()}

    def mean_norms(self) -> dict[str, Tensor]:
        """Of each encoder's input embeddings, the vocabulary over, without those that are zero; a scalar each."""
        norms = {name: self._vocabulary(name).float().norm(dim=-1) for name in self.names}
        return {name: norm.sum() / norm.count_nonzero() for name, norm in norms.items()}

    def encode(self, rows: Sequence[TokenRow], embedding: Embedding) -> TextConditioning:
        hidden, pooled = self._hidden(rows, embedding)
        outputs = {name: self._norms[name](each) for name, each in hidden.items()}
        return TextConditioning(outputs, self._context(outputs, rows), pooled)

    def encode_with_bypass(
        self, rows: Sequence[TokenRow], embedding: Embedding, bypass: Embedding
    ) -> tuple[Tensor, Tensor]:
        """The rows' slots are those of `bypass` [S, width], in order."""
        hidden, _ = self._hidden(rows, embedding)
        slots = torch.tensor([(row, place) for row, each in enumerate(rows) for place in each.span], device=self.device)
        moved = {name: with_bypass(each, bypass[name], slots) for name, each in hidden.items()}
        keys, values = (
            self._context({name: self._norms[name](each) for name, each in of.items()}, rows) for of in (hidden, moved)
        )
        return keys, values

    def _hidden(self, rows: Sequence[TokenRow], embedding: Embedding) -> tuple[dict[str, Tensor], Tensor | None]:
        """By encoder, its state [R, N, width] before the last norm; and the pooled text of SDXL's last encoder."""
        hidden: dict[str, Tensor] = {}
        pooled: Tensor | None = None
        for name, encoder in self._encoders.items():
            filled = [_fill(row.tokens[name], embedding.get(name)) for row in rows]
            hidden[name], pooled = encoder(filled)[:2]
        return hidden, pooled if "clip_g" in self.names else None

    def _context(self, outputs: Mapping[str, Tensor], rows: Sequence[TokenRow]) -> Tensor:
        """What cross-attention reads of the encoders' outputs."""
        contexts = [self._weigh(name, output, rows) for name, output in outputs.items()]
        shortest = min(context.shape[1] for context in contexts)  # LongCLIP's rows are longer: the host cuts them, too.
        return torch.cat([context[:, :shortest] for context in contexts], dim=-1)

    def _weigh(self, name: str, output: Tensor, rows: Sequence[TokenRow]) -> Tensor:
        """Prompt weights as the host applies them: away from, or towards, the output of an empty prompt."""
        if all(weight == 1 for row in rows for weight in row.weights):
            return output
        encoder, length = self._encoders[name], output.shape[1]
        weights = torch.tensor([row.weights[:length] for row in rows], device=output.device).unsqueeze(-1)
        empty_row = [encoder.special_tokens["start"], encoder.special_tokens["end"]]
        empty_row += [encoder.special_tokens["pad"]] * (length - len(empty_row))
        empty = self._norms[name](encoder([empty_row])[0])
        return torch.where(weights == 1, output, (output - empty) * weights + empty)

    def _vocabulary(self, name: str) -> Tensor:
        return self._encoders[name].transformer.get_input_embeddings().weight


def _taken_apart(encoder: SDClipModel) -> Callable[[Tensor], Tensor]:
    """The norm that the encoder's output is to be given, which the encoder itself gives it no more."""
    normed = encoder.layer == "last" or encoder.layer_norm_hidden_state
    if encoder.layer == "last":
        encoder.layer, encoder.layer_idx = "hidden", -1
    encoder.layer_norm_hidden_state = False
    return encoder.transformer.text_model.final_layer_norm if normed else nn.Identity()


def layer_weights(encoders: Mapping[str, Any]) -> list[str]:
    """Names of the matrices of attention and MLP in all layers that a U-Net's text goes through, by encoder's name.

    With *penultimate* output, or CLIP Set Last Layer, the rest is left out: it learns nothing, and SD 2.x has no such
    layers in other programs. SDXL's pooled text comes from all layers of its last encoder.
    """
    names: list[str] = []
    for name, encoder in encoders.items():
        through = encoder.num_layers
        if encoder.layer == "hidden" and name != "clip_g":
            through = encoder.layer_idx % encoder.num_layers + 1
        path = f"{name}.transformer.text_model.encoder.layers"
        names += [f"{path}.{layer}.{part}.weight" for layer in range(through) for part in comfy.lora.LORA_CLIP_MAP]
    return names


def _fill(tokens: Sequence[int | Tensor | ConceptSlot], vectors: Tensor | None) -> list[int | Tensor]:
    """The row as the host's encoder takes it, with the concept's vectors in their slots."""
    if vectors is None:
        return [token for token in tokens if not isinstance(token, ConceptSlot)]
    return [vectors[token.index] if isinstance(token, ConceptSlot) else token for token in tokens]
