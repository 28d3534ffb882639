"""Hugging Face's CLIP text models with a family's weights, read at the layer the family's U-Net reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from families.build import FAMILIES, TextEncoder, state_dict
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection


@dataclass(frozen=True)
class TextOracle:
    """The text encoders of one family, by the host's names for their token rows: "l", "h", "g"."""

    name: str
    models: dict[str, CLIPTextModelWithProjection]

    def encode(
        self, ids: Mapping[str, Sequence[int]], vectors: Mapping[str, Mapping[int, Tensor]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The context [1, N, D] that the U-Net reads, and the pooled output [1, D].

        ids: one row of token ids for every encoder. vectors: per encoder, embeddings [width] that replace the
        token embedding at a position; gradients reach them. SDXL's pooled output is its second encoder's.
        """
        outputs = [
            _read(self.name, model, torch.tensor([list(ids[encoder])]), (vectors or {}).get(encoder, {}))
            for encoder, model in self.models.items()
        ]
        return torch.cat([context for context, _ in outputs], dim=-1), outputs[-1][1]


def load_oracle(name: str, seed: int = 0) -> TextOracle:
    weights = state_dict(name, seed)
    encoders = FAMILIES[name].text_encoders
    return TextOracle(name, {encoder.host_name[-1]: text_model(encoder, weights) for encoder in encoders})


def _read(
    name: str, model: CLIPTextModelWithProjection, ids: Tensor, vectors: Mapping[int, Tensor]
) -> tuple[Tensor, Tensor]:
    text_model = model.text_model

    def put_vectors(module: nn.Module, inputs: tuple, embeddings: Tensor) -> Tensor:
        rows = [vectors.get(i, embeddings[0, i]) for i in range(embeddings.shape[1])]
        return torch.stack(rows)[None]

    hook = text_model.embeddings.token_embedding.register_forward_hook(put_vectors)
    try:
        output = model(input_ids=ids, output_hidden_states=True)
    finally:
        hook.remove()
    if name == "sd1":
        return output.last_hidden_state, output.text_embeds
    penultimate = output.hidden_states[-2]
    context = penultimate if name == "sdxl" else text_model.final_layer_norm(penultimate)
    return context, output.text_embeds


def text_model(
    encoder: TextEncoder, weights: Mapping[str, Tensor], attention: str = "eager"
) -> CLIPTextModelWithProjection:
    """transformers' CLIP with a checkpoint's weights, frozen. attention: transformers' name of its implementation."""
    config = CLIPTextConfig(
        hidden_size=encoder.width,
        projection_dim=encoder.width,
        intermediate_size=encoder.mlp_width,
        num_hidden_layers=encoder.layers,
        num_attention_heads=encoder.heads,
        hidden_act="gelu" if encoder.open_clip else "quick_gelu",
        eos_token_id=49407,
        attn_implementation=attention,
    )
    own = {key[len(encoder.prefix) :]: w.float() for key, w in weights.items() if key.startswith(encoder.prefix)}
    if encoder.open_clip:
        own = _from_open_clip(own)
    else:  # A checkpoint of SD1 has no projection; its pooled output is used nowhere.
        own["text_projection.weight"] = torch.eye(encoder.width)
    model = CLIPTextModelWithProjection(config).eval().requires_grad_(False)
    model.load_state_dict(own)
    return model


def _from_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's text keys in Hugging Face's names; the fused in_proj is q, k, v stacked."""
    names = {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
    }
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    parts["attn.out_proj"] = "self_attn.out_proj"
    converted = {"text_projection.weight": weights["text_projection"].T.contiguous()}
    converted |= {target: weights[source] for source, target in names.items()}
    for key, weight in weights.items():
        if not (match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", key)):
            continue
        number, part, kind = match.groups()
        layer = f"text_model.encoder.layers.{number}"
        if part == "attn.in_proj":
            for letter, third in zip("qkv", weight.chunk(3), strict=True):
                converted[f"{layer}.self_attn.{letter}_proj.{kind}"] = third
        else:
            converted[f"{layer}.{parts[part]}.{kind}"] = weight
    return converted
