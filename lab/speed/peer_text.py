"""transformers' text encoders with a family's weights, read where diffusers' pipelines read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from families.build import Family
from torch import Tensor

Ids = dict[str, Tensor]
"""Token ids [R, N] by the host's names of the encoders."""


@dataclass(frozen=True)
class Text:
    """What the U-Net reads. context: [R, N, D]. pooled: SDXL's, [R, 1280]."""

    context: Tensor
    pooled: Tensor | None = None

    def expand(self, batch: int) -> Text:
        """One row for all samples."""
        pooled = None if self.pooled is None else self.pooled.expand(batch, -1)
        return Text(self.context.expand(batch, -1, -1), pooled)


class PeerText:
    def __init__(self, family: Family, weights: Mapping[str, Tensor], device: torch.device) -> None:
        from oracles.text import text_model

        self.models: dict[str, Any] = {
            encoder.host_name: text_model(encoder, weights, "sdpa").to(device) for encoder in family.text_encoders
        }
        if "clip_h" in self.models:  # as diffusers ships SD2: without the last layer, whose output is not read
            text = self.models["clip_h"].text_model
            text.encoder.layers = text.encoder.layers[:-1]

    def encode(self, ids: Ids) -> Text:
        if len(self.models) == 1:
            ((name, model),) = self.models.items()
            return Text(model.text_model(input_ids=ids[name]).last_hidden_state)
        # SDXL: both encoders before their last layer, and the second one's pooled output.
        outputs = [model(input_ids=ids[name], output_hidden_states=True) for name, model in self.models.items()]
        return Text(torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1].text_embeds)
