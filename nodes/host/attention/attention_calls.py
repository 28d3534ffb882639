"""How the host calls attention: by which function, and what stands in for it.

`comfy.ldm.modules.attention.optimized_attention` is the host's choice for the machine. Every such function is wrapped:
`transformer_options["optimized_attention_override"]`, a function of the wrapped one and its arguments, takes its place.
There is room for one override; who sets his own leaves out one that is there. Between hosts differs what goes in:

- 0.28.0 to 0.33.0: q, k and v are tensors [B, N, H·d] (or [B, H, N, d] with `skip_reshape`)
- after 0.33.0: a U-Net's layers hand them over in an `AttentionTensorContainer` each; an override without a
  `container_function` still gets tensors. And they name a `preferred_attention`, which on quantized checkpoints takes
  the place of the host's choice, unless there is an override; overrides never see it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import comfy.ldm.modules.attention
from torch import Tensor

from ....core_ops.training.memory_estimate import rehearsed_attention

OVERRIDE = "optimized_attention_override"


def host_attention(q: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any], preferred: Any = None) -> Tensor:
    """As the host's cross-attention calls it when nothing is patched.

    extra: what a patch in its place is given. preferred: of this layer, as in `unet_layout.preferred_attentions`.
    """
    attention = comfy.ldm.modules.attention.optimized_attention
    more = {} if preferred is None else {"preferred_attention": preferred}
    return attention(
        q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra, **more
    )


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
