"""diffusers' U-Net with a family's weights, and the softmax maps of its cross-attention layers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from diffusers.models.attention_processor import Attention
from einops import rearrange
from families.build import FAMILIES, LATENT_CHANNELS, Family, state_dict
from torch import Tensor


@dataclass
class MapRecorder:
    """The textbook's attention as a diffusers processor; keeps each cross-attention's map [B, H, P, N], and its module
    with the queries [B, H, P, D]."""

    maps: list[Tensor] = field(default_factory=list)
    asked: list[tuple[Attention, Tensor]] = field(default_factory=list)

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: object
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            rearrange(x, "B N (H D) -> B H N D", H=attn.heads)
            for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        probabilities = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        if encoder_hidden_states is not None:
            self.maps.append(probabilities)
            self.asked.append((attn, q))
        return attn.to_out[0](rearrange(probabilities @ v, "B H P D -> B P (H D)"))


@dataclass(frozen=True)
class UNetOracle:
    unet: UNet2DConditionModel
    recorder: MapRecorder

    def __call__(
        self, x: Tensor, t: Tensor, context: Tensor, pooled: Tensor | None = None, sizes: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Prediction [B, C, h, w] and the cross-attention maps [B, H, P, N], from the input to the output.

        x: scaled noisy latents. t: timesteps [B]. context: [B, N, D]. SDXL only: pooled [B, 1280], and sizes
        [B, 6]: original height and width, top and left crop, target height and width.
        """
        self.recorder.maps.clear()
        self.recorder.asked.clear()
        added = None if pooled is None else {"text_embeds": pooled, "time_ids": sizes}
        prediction = self.unet(x, t, context, added_cond_kwargs=added).sample
        return prediction, list(self.recorder.maps)

    def asked_by_the_last_pass(self, context: Tensor) -> list[Tensor]:
        """The maps that another text would have, were it in place of that pass's in one layer at a time."""
        maps = []
        for attn, q in self.recorder.asked:
            k = rearrange(attn.to_k(context), "B N (H D) -> B H N D", H=attn.heads)
            maps.append((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1))
        return maps


def load_oracle(name: str, seed: int = 0) -> UNetOracle:
    unet = diffusers_unet(FAMILIES[name], state_dict(name, seed))
    recorder = MapRecorder()
    unet.set_attn_processor(recorder)
    return UNetOracle(unet, recorder)


def diffusers_unet(family: Family, checkpoint: dict[str, Tensor]) -> UNet2DConditionModel:
    """With the weights of a checkpoint in the original layout, frozen."""
    config = unet_config(family)
    unet = UNet2DConditionModel(**config).eval().requires_grad_(False)
    unet.load_state_dict(convert_ldm_unet_checkpoint(checkpoint, config))
    return unet


def unet_config(family: Family) -> dict:
    """In diffusers `attention_head_dim` is the number of heads; the middle has the last level's depth."""
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in family.depths]
    up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(family.up_depths)]
    config = {
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "block_out_channels": list(family.widths),
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": family.blocks_per_level,
        "transformer_layers_per_block": [depth or family.middle_depth for depth in family.depths],
        "reverse_transformer_layers_per_block": [depth or 1 for depth in reversed(family.up_depths)],
        "cross_attention_dim": family.context_width,
        "attention_head_dim": family.level_heads,
        "use_linear_projection": family.linear_projection,
    }
    if family.pooled_width:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": family.pooled_width,
        }
    return config


def sizes_of(height: int, width: int, batch: int) -> Tensor:
    """`sizes` [B, 6] of uncropped images that were not resized."""
    return torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32).repeat(batch, 1)
