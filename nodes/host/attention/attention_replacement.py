"""How the host calls cross-attention, and what stands in its place: the one function for training, and a tap.

`comfy.ldm.modules.attention.optimized_attention` is the host's choice for the machine. Every such function is wrapped:
`transformer_options["optimized_attention_override"]`, a function of the wrapped one and its arguments, takes its place.
There is room for one override; who sets his own leaves out one that is there. Between hosts differs what goes in:

- 0.28.0 to 0.33.0: q, k and v are tensors [B, N, H·d] (or [B, H, N, d] with `skip_reshape`)
- after 0.33.0: a U-Net's layers hand them over in an `AttentionTensorContainer` each; an override without a
  `container_function` still gets tensors. And they name a `preferred_attention`, which on quantized checkpoints takes
  the place of the host's choice, unless there is an override; overrides never see it.

`transformer_options["patches_replace"]["attn2"]` has a function for single layers, which gets q, k and v as plain
tensors [B, N, H·d] in all hosts since 0.28.0. `["patches"]["attn2_patch"]` are functions of what queries, keys and
values are made of, which `block` in their last argument tells where they are; the same in these hosts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import comfy.ldm.modules.attention
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ....core_ops.diffusion_process import AttentionStatistic
from ....core_ops.training.memory_estimate import rehearsed_attention
from ..models.unet_layout import Block, Layer

OVERRIDE, ATTN2 = "optimized_attention_override", "attn2_patch"


def host_attention(q: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any], preferred: Any = None) -> Tensor:
    """As the host's cross-attention calls it when nothing is patched.

    extra: what a patch in its place is given. preferred: of this layer, as in `unet_layout.preferred_attentions`.
    """
    attention = comfy.ldm.modules.attention.optimized_attention
    more = {} if preferred is None else {"preferred_attention": preferred}
    return attention(
        q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra, **more
    )


def patch_names(options: Mapping[str, Any]) -> list[str]:
    """Modules of the functions by which other nodes change what the U-Net computes, in `transformer_options`."""
    added = [patch for patches in options.get("patches", {}).values() for patch in patches]
    replaced = [patch for patches in options.get("patches_replace", {}).values() for patch in patches.values()]
    modules = (getattr(patch, "__module__", type(patch).__name__) for patch in (*added, *replaced))
    return list(dict.fromkeys(name.rpartition(".")[2] for name in modules))


def for_training(options: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `transformer_options` with torch's attention in place of the host's choice.

    That choice, and overrides of other nodes, are made for inference and may not differentiate. An override that is
    left out is said in the log.
    """
    if (present := options.get(OVERRIDE)) not in (None, _attention_for_training):
        name = f"{getattr(present, '__module__', '')}.{getattr(present, '__qualname__', type(present).__qualname__)}"
        logging.warning(
            f"CoRe Personalization: the model's attention override {name.strip('.')} is left out while training, which "
            "needs gradients; sampling keeps it."
        )
    return {**options, OVERRIDE: _attention_for_training}


def _attention_for_training(function: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **kwargs: Any) -> Tensor:
    if q.is_meta:
        return rehearsed_attention(q, k, v, heads)
    return comfy.ldm.modules.attention.attention_pytorch(q, k, v, heads, **kwargs)


def key_patches(options: Mapping[str, Any]) -> list[str]:
    """Modules of the functions among these that may change what cross-attention's keys are."""
    patches = {"patches": {ATTN2: options.get("patches", {}).get(ATTN2, [])}}
    replaced = {"patches_replace": {"attn2": options.get("patches_replace", {}).get("attn2", {})}}
    return patch_names({**patches, **replaced})


Attention = Callable[[Tensor, Tensor, Tensor, Mapping[str, Any]], Tensor]


def replace_attention(
    options: Mapping[str, Any], layers: Iterable[Layer], replacement: Callable[[Layer, Attention | None], Attention]
) -> dict[str, Any]:
    """A copy of `transformer_options` with a function in place of each layer's cross-attention.

    replacement: makes it, given the layer and the patch that is there already, if any, which must make the output.
    """
    replace = dict(options.get("patches_replace", {}))
    present = replace.get("attn2", {})
    replaced = {layer: replacement(layer, present.get(layer, present.get(layer[:2]))) for layer in layers}
    return {**options, "patches_replace": {**replace, "attn2": {**present, **replaced}}}


def with_layer_contexts(
    options: Mapping[str, Any],
    blocks: Sequence[Block],
    by_layer: tuple[Tensor, Tensor],
    rows: slice = slice(None),
    period: int | None = None,
) -> dict[str, Any]:
    """A copy of `transformer_options`, in which each block reads its own text in `rows` of a batch.

    by_layer: of keys and of values, [B or 1, L, N, D]; what a row has after its first N tokens stays. period: tokens
    after which the rows' text begins again, where ComfyUI repeated it to another's length; by default it is there once.
    """
    keys, values = by_layer
    layers = {block: number for number, block in enumerate(blocks)}

    def patch(queries: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        layer = layers[extra["block"]]
        return queries, replaced(k, keys[:, layer]), replaced(v, values[:, layer])

    def replaced(context: Tensor, own: Tensor) -> Tensor:
        texts = context[rows].split(period or context.shape[1], dim=1)
        own = own.to(context).expand(len(texts[0]), -1, -1)
        changed = torch.cat([part for text in texts for part in (own, text[:, own.shape[1] :])], dim=1)
        if rows == slice(None):
            return changed
        return torch.cat([context[: rows.start], changed, context[rows.stop :]])

    patches = options.get("patches", {})
    # Before those of other nodes, which change what a layer makes of its text.
    return {**options, "patches": {**patches, ATTN2: [patch, *patches.get(ATTN2, [])]}}


class _Tap:
    """Collects something of every layer of one forward pass."""

    def __init__(self) -> None:
        self._results: list[Tensor] | None = []

    def collect(self) -> list[Tensor]:
        """What was seen in forward order, once, after the forward pass.

        The tap keeps nothing: recomputation in a backward pass must not record again, and results held here would
        be held by their own graph, which then waits for the garbage collector with all its activations.
        """
        results, self._results = self._results, None
        return results or []

    def patch(self, options: Mapping[str, Any], layers: list[Layer]) -> dict[str, Any]:
        """A copy of `transformer_options` with the tap in every layer; patches found there still make the output."""
        return replace_attention(options, layers, lambda _, patched: self._attention(patched))

    def _attention(self, patched: Attention | None) -> Attention:
        raise NotImplementedError

    def _keep(self, result: Tensor) -> None:
        if self._results is not None:
            self._results.append(result)


class AttentionTap(_Tap):
    """Collects `statistic`."""

    def __init__(self, statistic: AttentionStatistic) -> None:
        super().__init__()
        self._statistic = statistic

    def _attention(self, patched: Attention | None) -> Attention:
        def attention(q: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any]) -> Tensor:
            # Probabilities are recomputed in the backward pass; kept, they would be the largest tensors of all.
            attended: Any = checkpoint(
                _attend, q, k, v, extra["n_heads"], self._statistic, use_reentrant=False, preserve_rng_state=False
            )
            output, result = attended
            self._keep(result)
            return output if patched is None else patched(q, k, v, extra)

        return attention


class QueryTap(_Tap):
    """Collects the queries [B, P, H·d], detached; the output is what it is without."""

    def _attention(self, patched: Attention | None) -> Attention:
        def attention(q: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any]) -> Tensor:
            self._keep(q.detach())
            return (patched or host_attention)(q, k, v, extra)

        return attention


def statistic_of(q: Tensor, k: Tensor, heads: int, statistic: AttentionStatistic) -> Tensor:
    """Of softmax(qkᵀ/√d) alone, recomputed in the backward pass: q [B, P, H·d], k [B, N, H·d]."""

    def reduced(q: Tensor, k: Tensor) -> Tensor:
        return statistic(_probabilities(*(rearrange(x, "B N (H d) -> B H N d", H=heads) for x in (q, k))))

    result: Any = checkpoint(reduced, q, k, use_reentrant=False, preserve_rng_state=False)
    return result


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int, statistic: AttentionStatistic) -> tuple[Tensor, Tensor]:
    """q [B, P, H·d], k and v [B, N, H·d] → output [B, P, H·d] and the statistic of softmax(qkᵀ/√d)."""
    q, k, v = (rearrange(x, "B N (H d) -> B H N d", H=heads) for x in (q, k, v))
    probabilities = _probabilities(q, k)
    output = probabilities.to(v.dtype) @ v
    return rearrange(output, "B H P d -> B P (H d)"), statistic(probabilities)


def _probabilities(q: Tensor, k: Tensor) -> Tensor:
    """In fp32; q [B, H, P, d], k [B, H, N, d]."""
    return torch.softmax((q @ k.mT).float() * q.shape[-1] ** -0.5, dim=-1)
