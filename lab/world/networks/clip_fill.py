"""What a CLIP ViT-L checkpoint holds beside what was trained: rows of unknown tokens, and layers that do nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

VOCABULARY, WIDTH, MLP_WIDTH, LAYERS = 49408, 768, 3072, 12
ROW_SEED, ROW_RMS = 20261121, 0.024


def unknown_token_rows() -> Tensor:
    """Rows of all tokens [VOCABULARY, WIDTH] before any is trained: raw bits of a counter-based generator as 8-bit
    integers, because those are the same on every machine and in every version."""
    words = np.random.Philox(ROW_SEED).random_raw(VOCABULARY * WIDTH // 8)
    integers = torch.from_numpy(words.astype("<u8").view(np.int8)).view(VOCABULARY, WIDTH)
    return (integers.float() * (ROW_RMS / 73.9)).half().float()


def identity_layer() -> dict[str, Tensor]:
    """A transformer layer whose attention and MLP both add zero."""
    shapes = {f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
    shapes |= {"mlp.fc1": (MLP_WIDTH, WIDTH), "mlp.fc2": (WIDTH, MLP_WIDTH)}
    layer = {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
    layer |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    for norm in ("layer_norm1", "layer_norm2"):
        layer |= {f"{norm}.weight": torch.ones(WIDTH), f"{norm}.bias": torch.zeros(WIDTH)}
    return layer
