"""Cross-attention probabilities of a host U-Net, handed layer by layer to a statistic.

The host lets a function stand in for a layer's attention. Ours computes the same softmax(qkᵀ/√d)v, and on the way shows
the probabilities to a statistic and keeps only its result.

Leans on `transformer_options["patches_replace"]["attn2"]`, whose functions get q, k and v as plain tensors [B, N, H·d]
in all hosts since 0.28.0: later ones wrap what they hand to attention itself (see `attention_calls`), but not this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ....core_ops.conditioning import AttentionStatistic
from ..models.unet_layout import Layer

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


class AttentionTap:
    """Collects `statistic` of every layer of one forward pass."""

    def __init__(self, statistic: AttentionStatistic) -> None:
        self._statistic = statistic
        self._results: list[Tensor] | None = []

    def collect(self) -> list[Tensor]:
        """The statistics in forward order, once, after the forward pass.

        The tap keeps nothing: recomputation in a backward pass must not record again, and results held here would
        be held by their own graph, which then waits for the garbage collector with all its activations.
        """
        results, self._results = self._results, None
        return results or []

    def patch(self, options: Mapping[str, Any], layers: list[Layer]) -> dict[str, Any]:
        """A copy of `transformer_options` with the tap in every layer; patches found there still make the output."""
        return replace_attention(options, layers, lambda _, patched: self._attention(patched))

    def _attention(self, patched: Attention | None) -> Attention:
        def attention(q: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any]) -> Tensor:
            # Probabilities are recomputed in the backward pass; kept, they would be the largest tensors of all.
            attended: Any = checkpoint(
                _attend, q, k, v, extra["n_heads"], self._statistic, use_reentrant=False, preserve_rng_state=False
            )
            output, result = attended
            if self._results is not None:
                self._results.append(result)
            return output if patched is None else patched(q, k, v, extra)

        return attention


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int, statistic: AttentionStatistic) -> tuple[Tensor, Tensor]:
    """q [B, P, H·d], k and v [B, N, H·d] → output [B, P, H·d] and the statistic of softmax(qkᵀ/√d)."""
    q, k, v = (rearrange(x, "B N (H d) -> B H N d", H=heads) for x in (q, k, v))
    probabilities = torch.softmax((q @ k.mT).float() * q.shape[-1] ** -0.5, dim=-1)
    output = probabilities.to(v.dtype) @ v
    return rearrange(output, "B H P d -> B P (H d)"), statistic(probabilities)
