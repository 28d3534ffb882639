"""The U-Net: Stable Diffusion 1.5's building blocks on one level, with the original LDM names for its weights.

ComfyUI recognises the family by `model_channels` 320, 768-wide context and convolutional `proj_in`.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS, CONTEXT_WIDTH, HEADS, LATENT_CHANNELS = 320, 768, 8, 4
TIME_WIDTH = 4 * CHANNELS


def timestep_embedding(t: Tensor, width: int = CHANNELS) -> Tensor:
    """Cosines then sines of t [B] at `width / 2` frequencies from 1 to 1/10000: [B, width]."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(TIME_WIDTH, outputs))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, outputs), nn.SiLU(), nn.Identity(), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        hidden = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(hidden)


class Attention(nn.Module):
    def __init__(self, context_width: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.to_k = nn.Linear(context_width, CHANNELS, bias=False)
        self.to_v = nn.Linear(context_width, CHANNELS, bias=False)
        self.to_out = nn.Sequential(nn.Linear(CHANNELS, CHANNELS))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, P, C]; context [B / shared, N, D]: rows that share a caption lie side by side."""
        q = rearrange(self.to_q(x), "(b s) p (h d) -> b h (s p) d", b=context.shape[0], h=HEADS)
        k, v = (rearrange(layer(context), "b n (h d) -> b h n d", h=HEADS) for layer in (self.to_k, self.to_v))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return self.to_out(rearrange(weights.to(v.dtype) @ v, "b h (s p) d -> (b s) p (h d)", p=x.shape[1]))


class GEGLU(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        inner = 4 * CHANNELS
        self.net = nn.Sequential(GEGLU(CHANNELS, inner), nn.Identity(), nn.Linear(inner, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.attn2, self.ff = Attention(CHANNELS), Attention(CONTEXT_WIDTH), FeedForward()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(CHANNELS) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, CHANNELS, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock()])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        pixels = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        pixels = self.transformer_blocks[0](pixels, context)
        return x + self.proj_out(rearrange(pixels, "b (h w) c -> b c h w", h=x.shape[2]))


class UNet(nn.Module):
    """ε from z_t [B, 4, h, w], t [B] in 0…999 and context [B / shared, 77, 768]."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(CHANNELS, TIME_WIDTH), nn.SiLU(), nn.Linear(TIME_WIDTH, TIME_WIDTH))
        self.input_blocks = nn.ModuleList(
            [
                nn.ModuleList([nn.Conv2d(LATENT_CHANNELS, CHANNELS, 3, padding=1)]),
                nn.ModuleList([ResBlock(CHANNELS, CHANNELS), SpatialTransformer()]),
            ]
        )
        self.middle_block = nn.ModuleList(
            [ResBlock(CHANNELS, CHANNELS), SpatialTransformer(), ResBlock(CHANNELS, CHANNELS)]
        )
        self.output_blocks = nn.ModuleList(
            nn.ModuleList([ResBlock(2 * CHANNELS, CHANNELS), SpatialTransformer()]) for _ in range(2)
        )
        self.out = nn.Sequential(
            nn.GroupNorm(32, CHANNELS), nn.SiLU(), nn.Conv2d(CHANNELS, LATENT_CHANNELS, 3, padding=1)
        )
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """As LDM does: every block begins as the identity, and the output as nothing."""
        for module in self.modules():
            if isinstance(module, ResBlock):
                nn.init.zeros_(module.out_layers[-1].weight)
            elif isinstance(module, SpatialTransformer):
                nn.init.zeros_(module.proj_out.weight)
        nn.init.zeros_(self.out[-1].weight)

    def forward(self, z_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
        time = self.time_embed(timestep_embedding(t))
        stem = self.input_blocks[0][0](z_t)
        first = _run(self.input_blocks[1], stem, time, context)
        hidden = _run(self.middle_block, first, time, context)
        for block, skip in zip(self.output_blocks, (first, stem), strict=True):
            hidden = _run(block, torch.cat([hidden, skip], dim=1), time, context)
        return self.out(hidden)


def _run(block: nn.ModuleList, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
    for layer in block:
        x = layer(x, time) if isinstance(layer, ResBlock) else layer(x, context)
    return x
