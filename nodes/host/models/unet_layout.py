"""How the host builds the U-Net of SD1, SD2 and SDXL: where its cross-attention is, what in its state is a weight.

Leans on `UNetModel` with `input_blocks`, `middle_block` and `output_blocks`, on `Downsample` and `Upsample` in them,
and on `BasicTransformerBlock` with `attn2` and `n_heads`: the same in all hosts from 0.28.0 to 0.33.0, and the blocks
in a later file. What differs is the state dict, to which quantized layers add settings as bytes: `….comfy_quant` in all
these hosts, and after 0.33.0 `….comfy_attention.config`, where `CrossAttention` holds a `comfy_attention`. Neither is a
parameter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from torch import nn

Layer = tuple[str, int, int]
"""(block, number, index) as the host names cross-attention layers, such as ("input", 4, 0)."""


Block = tuple[str, int]
"""(block, number): where attention layers are, such as ("input", 4)."""


def cross_attention_layers(unet: nn.Module) -> list[Layer]:
    """All cross-attention layers of a U-Net, in forward order."""
    return [_layer_of(name) for name, _ in _cross_attention_blocks(unet)]


def cross_attentions(unet: nn.Module) -> list[Any]:
    """Their modules: queries, keys and values of the layers, in forward order."""
    return [module.attn2 for _, module in _cross_attention_blocks(unet)]


def attention_blocks(unet: nn.Module) -> list[Block]:
    """Blocks with cross-attention, in forward order: 16 of SD 1 and 2, one layer each; 11 of SDXL, up to ten layers."""
    return list(dict.fromkeys(layer[:2] for layer in cross_attention_layers(unet)))


def _cross_attention_blocks(unet: nn.Module) -> list[tuple[str, Any]]:
    return [
        (name, module)
        for name, module in unet.named_modules()
        if isinstance(module, BasicTransformerBlock) and module.attn2 is not None
    ]


def _layer_of(name: str) -> Layer:
    """Module names read input_blocks.4.1.transformer_blocks.0 and middle_block.1.transformer_blocks.0."""
    return (*block_of(name), int(name.rpartition(".")[2]))


def block_of(name: str) -> tuple[str, int]:
    """The host's name of the block that a module of the U-Net is in, such as ("input", 4)."""
    block, number, *_ = name.split(".")
    return block.removesuffix("_blocks").removesuffix("_block"), 0 if block == "middle_block" else int(number)


@dataclass(frozen=True)
class LayerPlace:
    """Where a cross-attention layer works. halvings: how often the latent's side has been halved there."""

    halvings: int
    heads: int


def layer_places(unet: UNetModel) -> dict[Layer, LayerPlace]:
    """All cross-attention layers of a host U-Net, in forward order."""
    halvings = block_depths(unet)
    return {
        _layer_of(name): LayerPlace(halvings[block_of(name)], block.n_heads)
        for name, block in _cross_attention_blocks(unet)
    }


def block_depths(unet: UNetModel) -> dict[tuple[str, int], int]:
    """How often the latent's side has been halved in each block, by its place as `block_of` gives it."""
    halvings: dict[tuple[str, int], int] = {}
    depth = 0
    for number, block in enumerate(unet.input_blocks):
        depth += _has(block, Downsample)
        halvings["input", number] = depth
    halvings["middle", 0] = depth
    for number, block in enumerate(unet.output_blocks):
        halvings["output", number] = depth
        depth -= _has(block, Upsample)  # the last module of its block
    return halvings


def recomputable_blocks(unet: UNetModel) -> dict[str, nn.Module]:
    """The modules that gradient checkpointing computes twice, by name; none contains another."""
    return {
        name: module for name, module in unet.named_modules() if isinstance(module, BasicTransformerBlock | ResBlock)
    }


def _has(block: nn.Module, kind: type[nn.Module]) -> bool:
    return any(isinstance(module, kind) for module in block.modules())


def unet_parameters(unet: nn.Module) -> dict[str, nn.Parameter]:
    """A U-Net's weights by name, as in its state dict, and without the settings that are there too. Not copies."""
    return {name: weight for name, weight in unet.named_parameters() if name.endswith((".weight", ".bias"))}


def preferred_attentions(unet: nn.Module) -> dict[Layer, Any]:
    """What layers of a quantized checkpoint hand to the host's attention, to have another in its place.

    Empty on hosts up to 0.33.0, and where the layers prefer none or the machine does not have it.
    """
    held = {
        _layer_of(name): getattr(block.attn2, "comfy_attention", None) for name, block in _cross_attention_blocks(unet)
    }
    return {layer: attention for layer, attention in held.items() if getattr(attention, "function", None) is not None}


def offloaded_layers(unet: nn.Module, share: float, trained: Collection[str]) -> set[str]:
    """Names of the linear and convolution layers whose weights stay in main memory: the largest first, up to `share`
    of the bytes of all. trained: names of parameters that are trained themselves, and stay on the device."""
    sizes = {
        name: layer.weight.nbytes
        for name, layer in unet.named_modules()
        if (isinstance(layer, nn.Conv2d) or hasattr(layer, "in_features")) and f"{name}.weight" not in trained
    }
    left, away = share * sum(sizes.values()), set[str]()
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if sizes[name] <= left:
            away.add(name)
            left -= sizes[name]
    return away
