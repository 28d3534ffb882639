"""The text encoder: CLIP ViT-L's, with two of its twelve layers at work, and rows for the world's words."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from .clip_fill import MLP_WIDTH, WIDTH, unknown_token_rows

HEADS, POSITIONS, ACTIVE_LAYERS = 12, 77, 2
START, END = 49406, 49407


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            rearrange(layer(x), "b n (h d) -> b h n d", h=HEADS) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(rearrange(attended, "b h n d -> b n (h d)"))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, MLP_WIDTH), nn.Linear(MLP_WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(quick_gelu(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = SelfAttention(), MLP()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    """Token ids [B, 77] to embeddings [B, 77, 768]. Only the rows of `known` tokens are trained."""

    def __init__(self, known: list[int]) -> None:
        super().__init__()
        self.register_buffer("known", torch.tensor(known))
        self.register_buffer("rows", unknown_token_rows(), persistent=False)
        self.known_rows = nn.Parameter(self.rows[self.known].clone())
        self.position_embedding = nn.Embedding(POSITIONS, WIDTH)
        nn.init.normal_(self.position_embedding.weight, std=0.01)
        self.layers = nn.ModuleList(Layer() for _ in range(ACTIVE_LAYERS))
        self.final_layer_norm = nn.LayerNorm(WIDTH)

    def token_rows(self) -> Tensor:
        """The whole table [VOCABULARY, WIDTH]; gradients reach the known rows."""
        return self.rows.index_copy(0, self.known, self.known_rows)

    def forward(self, ids: Tensor) -> Tensor:
        unique, places = ids.unique(return_inverse=True)
        rows, index = self.rows[unique], torch.searchsorted(self.known, unique).clamp(max=len(self.known) - 1)
        is_known = (self.known[index] == unique)[:, None]
        x = torch.where(is_known, self.known_rows[index], rows)[places] + self.position_embedding.weight
        for layer in self.layers:
            x = layer(x)
        return self.final_layer_norm(x)
