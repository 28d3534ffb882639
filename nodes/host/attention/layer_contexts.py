"""Another text for each attention block, by the host's own patch of what cross-attention reads.

Leans on `transformer_options["patches"]["attn2_patch"]`, functions of queries and of what keys and values are made of,
and on `block` in what they are given; the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Block = tuple[str, int]
ATTN2 = "attn2_patch"


def with_layer_contexts(
    options: Mapping[str, Any], blocks: Sequence[Block], by_layer: tuple[Tensor, Tensor], rows: slice = slice(None)
) -> dict[str, Any]:
    """A copy of `transformer_options`, in which each block reads its own text in `rows` of a batch.

    by_layer: of keys and of values, [B or 1, L, N, D]; what a row has after its first N tokens stays.
    """
    keys, values = by_layer
    layers = {block: number for number, block in enumerate(blocks)}

    def patch(queries: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        layer = layers[extra["block"]]
        return queries, replaced(k, keys[:, layer]), replaced(v, values[:, layer])

    def replaced(context: Tensor, own: Tensor) -> Tensor:
        changed = torch.cat([own.to(context).expand(len(context[rows]), -1, -1), context[rows, own.shape[1] :]], dim=1)
        if rows == slice(None):
            return changed
        return torch.cat([context[: rows.start], changed, context[rows.stop :]])

    patches = options.get("patches", {})
    return {**options, "patches": {**patches, ATTN2: [*patches.get(ATTN2, []), patch]}}
