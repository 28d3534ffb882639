"""Small random-weight CLIP and DINO models as folders that transformers loads, each with its processor."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, Dinov2Config, Dinov2Model, ViTConfig, ViTModel

SIDE = 32
TOWER = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
VISION = {**TOWER, "image_size": SIDE, "patch_size": 8}
START, END = 49406, 49407


def save_clip(folder: Path, tokenizer: Path, seed: int = 0) -> Path:
    """A CLIP of 32 features; tokenizer: a folder with CLIP's vocabulary, such as ComfyUI's sd1_tokenizer."""
    text = {**TOWER, "vocab_size": END + 1, "bos_token_id": START, "eos_token_id": END, "pad_token_id": END}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=32)
    _spread(CLIPModel(config), seed).save_pretrained(folder)
    CLIPTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    transformers.CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


def save_dino(folder: Path, seed: int = 1) -> Path:
    """A DINO: a plain ViT, without pooling as DINO's published weights are."""
    _spread(ViTModel(ViTConfig(**VISION), add_pooling_layer=False), seed).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def save_dinov2(folder: Path, seed: int = 2) -> Path:
    config = Dinov2Config(**{**VISION, "mlp_ratio": 2})
    _spread(Dinov2Model(config), seed).save_pretrained(folder)
    size = {"size": {"shortest_edge": SIDE + 8}, "crop_size": {"height": SIDE, "width": SIDE}}
    transformers.BitImageProcessor(**size).save_pretrained(folder)
    return folder


def _spread(model, seed: int):
    """Weights large enough that pictures and texts get features that differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 or name.endswith("class_embedding"):
                weight.normal_(0, 0.15, generator=generator)
    return model.eval()
