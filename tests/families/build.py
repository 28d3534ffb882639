"""Small random-weight checkpoints with the keys and shapes by which ComfyUI recognises the real families.

    python tests/families/build.py sd1 DEST.safetensors --seed 0

What makes a family (width 320, context width, depth pattern, key names) is real; the number of blocks and the
text encoders are small. The weights are random but not degenerate: activations are of order 1, attention is
peaked, outputs depend on every token, ε models pass their input on so that sampling denoises, and the VAE
(TAESD's architecture) reconstructs the mean colour of every 8x8 block.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

Shapes = Iterator[tuple[str, tuple[int, ...]]]

WIDTH = 320  # The host tells SD1, SD2 and SDXL from others by this width.
TIME_WIDTH = 4 * WIDTH
GROUP = WIDTH // 32  # Channels of one group of the U-Net's group norms.
VAE_WIDTH = 64
LATENT_CHANNELS = 4


@dataclass(frozen=True)
class TextEncoder:
    """prefix: of its keys. host_name: clip_l, clip_h, clip_g. full: layers and MLP width of the real one."""

    prefix: str
    host_name: str
    width: int
    heads: int
    full: tuple[int, int]
    layers: int = 3
    mlp_width: int = 256

    @property
    def open_clip(self) -> bool:
        """Whether the checkpoint keeps OpenCLIP's key names, with q, k and v in one matrix."""
        return self.host_name != "clip_l"


@dataclass(frozen=True)
class Family:
    """depths: transformer blocks per residual block, per level, finest first; up_depths: on the way up.

    heads: at the finest level. level_widths: channels per level, finest first; empty for WIDTH in all.
    """

    context_width: int
    heads: int
    linear_projection: bool
    blocks_per_level: int
    depths: tuple[int, ...]
    up_depths: tuple[int, ...]
    middle_depth: int
    text_encoders: tuple[TextEncoder, ...]
    latent_scale: float = 0.18215
    pooled_width: int | None = None
    prediction: str = "epsilon"
    level_widths: tuple[int, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        return self.level_widths or (WIDTH,) * len(self.depths)

    @property
    def level_heads(self) -> list[int]:
        """Attention heads per level: SD1 has as many at all, the others heads of one width."""
        if not self.linear_projection:
            return [self.heads] * len(self.widths)
        return [self.heads * width // self.widths[0] for width in self.widths]


CLIP_L = TextEncoder("cond_stage_model.transformer.", "clip_l", 768, 12, (12, 3072))
CLIP_H = TextEncoder("cond_stage_model.model.", "clip_h", 1024, 16, (24, 4096))
CLIP_G = TextEncoder("conditioner.embedders.1.model.", "clip_g", 1280, 20, (32, 5120))
SD2 = Family(1024, 5, True, 1, (1, 1), (1, 1), 1, (CLIP_H,))
FAMILIES = {
    "sd1": Family(768, 8, False, 1, (1, 1), (1, 1), 1, (CLIP_L,)),
    "sd2": SD2,
    # The host reads v-prediction off a bias in output block 11: four levels of two blocks, as the real one.
    "sd2_v": replace(
        SD2, blocks_per_level=2, depths=(1, 0, 0, 0), up_depths=(1, 0, 0, 0), prediction="v_prediction"
    ),
    # SDXL itself would need depths (0, 2, 10); these are those of its distillation Segmind Vega.
    "sdxl": Family(
        2048, 5, True, 2, (0, 1, 2), (0, 1, 1), 2,
        (replace(CLIP_L, prefix="conditioner.embedders.0.transformer."), CLIP_G), 0.13025, 2816,
    ),
}  # fmt: skip
V_PREDICTION_MARK = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


def state_dict(name: str, seed: int = 0, full_text_encoders: bool = False) -> dict[str, Tensor]:
    """A whole checkpoint: U-Net and VAE in float32, text encoders in float16 as the host keeps them.

    full_text_encoders: pad the text encoders to the real ones' depth and MLP width, which core's checkpoint
    loader insists on. Their outputs stay the same.
    """
    if name not in FAMILIES:
        raise ValueError(f"family: expected one of {', '.join(FAMILIES)}, got {name!r}.")
    return checkpoint(FAMILIES[name], seed, full_text_encoders)


def checkpoint(family: Family, seed: int = 0, full_text_encoders: bool = False) -> dict[str, Tensor]:
    """`state_dict` of a family of any size."""
    weights = {key: _unet_weight(key, shape, seed) for key, shape in unet_shapes(family)}
    if family.prediction == "epsilon":
        _pass_input_on(weights, family)
    else:
        weights[V_PREDICTION_MARK] *= 4  # A standard deviation of 0.2; the host asks for more than 0.09.
    weights |= autoencoder(family, seed)
    for encoder in family.text_encoders:
        small = {key: _text_weight(key, shape, seed) for key, shape in text_shapes(encoder)}
        weights |= _padded(small, encoder) if full_text_encoders else small
    return weights


def unet_shapes(family: Family, prefix: str = "model.diffusion_model.") -> Shapes:
    """Keys and shapes of the U-Net in the original (LDM) layout."""
    first, last = family.widths[0], family.widths[-1]
    for name, inputs in [("time_embed", WIDTH), ("label_emb.0", family.pooled_width)]:
        if inputs:
            yield from _affine(f"{prefix}{name}.0", TIME_WIDTH, inputs)
            yield from _affine(f"{prefix}{name}.2", TIME_WIDTH, TIME_WIDTH)
    yield from _affine(f"{prefix}input_blocks.0.0", first, LATENT_CHANNELS, 3, 3)
    yield from _affine(f"{prefix}out.0", first)
    yield from _affine(f"{prefix}out.2", LATENT_CHANNELS, first, 3, 3)
    yield from _residual_block(f"{prefix}middle_block.0", last, last)
    yield from _transformer(f"{prefix}middle_block.1", family.middle_depth, family, last)
    yield from _residual_block(f"{prefix}middle_block.2", last, last)
    yield from _way_down(family, prefix)
    yield from _way_up(family, prefix)


def _way_down(family: Family, prefix: str) -> Shapes:
    names = (f"{prefix}input_blocks.{number}" for number in count(1))
    inputs = family.widths[0]
    for level, (depth, width) in enumerate(zip(family.depths, family.widths, strict=True)):
        if level:
            yield from _affine(f"{next(names)}.0.op", inputs, inputs, 3, 3)
        for name in islice(names, family.blocks_per_level):
            yield from _residual_block(f"{name}.0", inputs, width)
            yield from _transformer(f"{name}.1", depth, family, width)
            inputs = width


def _skips(family: Family) -> list[int]:
    """Widths of what the way down hands to the way up, in the order in which it is made."""
    widths = family.widths
    levels = [width for width in widths for _ in range(family.blocks_per_level + 1)]
    # A level ends with its smaller copy, but for the last, and the first begins with the input convolution.
    return [widths[0], *levels[:-1]]


def _way_up(family: Family, prefix: str) -> Shapes:
    names = (f"{prefix}output_blocks.{number}" for number in count())
    skips, inputs = _skips(family), family.widths[-1]
    for level, depth in reversed(list(enumerate(family.up_depths))):
        width = family.widths[level]
        for name in islice(names, family.blocks_per_level + 1):
            yield from _residual_block(f"{name}.0", inputs + skips.pop(), width)
            yield from _transformer(f"{name}.1", depth, family, width)
            inputs = width
        if level:
            yield from _affine(f"{name}.{2 if depth else 1}.conv", width, width, 3, 3)


def _residual_block(prefix: str, inputs: int, width: int) -> Shapes:
    yield from _affine(f"{prefix}.in_layers.0", inputs)
    yield from _affine(f"{prefix}.in_layers.2", width, inputs, 3, 3)
    yield from _affine(f"{prefix}.emb_layers.1", width, TIME_WIDTH)
    yield from _affine(f"{prefix}.out_layers.0", width)
    yield from _affine(f"{prefix}.out_layers.3", width, width, 3, 3)
    if inputs != width:
        yield from _affine(f"{prefix}.skip_connection", width, inputs, 1, 1)


def _transformer(prefix: str, depth: int, family: Family, width: int) -> Shapes:
    if not depth:
        return
    kernel = () if family.linear_projection else (1, 1)
    yield from _affine(f"{prefix}.norm", width)
    for projection in ("proj_in", "proj_out"):
        yield from _affine(f"{prefix}.{projection}", width, width, *kernel)
    for block in (f"{prefix}.transformer_blocks.{i}" for i in range(depth)):
        for attention, context_width in [("attn1", width), ("attn2", family.context_width)]:
            yield f"{block}.{attention}.to_q.weight", (width, width)
            yield f"{block}.{attention}.to_k.weight", (width, context_width)
            yield f"{block}.{attention}.to_v.weight", (width, context_width)
            yield from _affine(f"{block}.{attention}.to_out.0", width, width)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _affine(f"{block}.{norm}", width)
        yield from _affine(f"{block}.ff.net.0.proj", 8 * width, width)
        yield from _affine(f"{block}.ff.net.2", width, 4 * width)


def text_shapes(encoder: TextEncoder) -> Shapes:
    """Keys and shapes of a small text encoder in the layout its family's checkpoints have."""
    width, root = encoder.width, encoder.prefix
    if not encoder.open_clip:
        root += "text_model."
        yield f"{root}embeddings.token_embedding.weight", (49408, width)
        yield f"{root}embeddings.position_embedding.weight", (77, width)
        yield from _affine(f"{root}final_layer_norm", width)
        for layer in (f"{root}encoder.layers.{i}." for i in range(encoder.layers)):
            for projection in "qkv":
                yield from _affine(f"{layer}self_attn.{projection}_proj", width, width)
            names = ("layer_norm1", "layer_norm2", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
            yield from _layer(layer, encoder, names)
        return
    yield f"{root}token_embedding.weight", (49408, width)
    yield f"{root}positional_embedding", (77, width)
    yield f"{root}text_projection", (width, width)
    yield f"{root}logit_scale", ()
    yield from _affine(f"{root}ln_final", width)
    for layer in (f"{root}transformer.resblocks.{i}." for i in range(encoder.layers)):
        yield f"{layer}attn.in_proj_weight", (3 * width, width)
        yield f"{layer}attn.in_proj_bias", (3 * width,)
        yield from _layer(layer, encoder, ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj"))


def _layer(prefix: str, encoder: TextEncoder, names: tuple[str, str, str, str, str]) -> Shapes:
    width, mlp_width = encoder.width, encoder.mlp_width
    shapes = [(width,), (width,), (width, width), (mlp_width, width), (width, mlp_width)]
    for name, shape in zip(names, shapes, strict=True):
        yield from _affine(prefix + name, *shape)


def _affine(prefix: str, *shape: int) -> Shapes:
    yield f"{prefix}.weight", shape
    yield f"{prefix}.bias", shape[:1]


def _noise(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal; depends on key and seed only: changing one layer leaves the other weights alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed} {key}".encode())))


def _scaled(key: str, shape: tuple[int, ...], seed: int, gains: dict[str, float]) -> Tensor:
    """Biases near 0, norms near 1, matrices that keep the scale times the gain whose name is in the key."""
    noise = _noise(key, shape, seed)
    if "bias" in key:
        return 0.05 * noise
    if len(shape) < 2:
        return 1 + 0.05 * noise
    gain = next((gain for part, gain in gains.items() if part in key), 1.0)
    return noise * gain / math.sqrt(math.prod(shape[1:]))


def _unet_weight(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    # Queries and keys: logits of standard deviation 2.5, so peaked maps. attn2.to_out: the prompt matters.
    gains = {"to_q": 1.6, "to_k": 1.6, "attn2.to_out": 2.0, "emb_layers": 0.5, "diffusion_model.out.2": 0.2}
    return _scaled(key, shape, seed, gains)


def _text_weight(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    if key.endswith("logit_scale"):
        return torch.tensor(4.6055, dtype=torch.float16)
    if "_embedding" in key:  # Norms as in OpenAI's CLIP: 0.4 for tokens, less for positions.
        norm = 0.4 if "token_embedding" in key else 0.15
        return (_noise(key, shape, seed) * norm / math.sqrt(shape[1])).half()
    gains = {"q_proj": 1.4, "k_proj": 1.4, "in_proj": 1.2, "out_proj": 0.7, "fc1": 1.5, "c_fc": 1.5}
    return _scaled(key, shape, seed, gains).half()


def _pass_input_on(weights: dict[str, Tensor], family: Family) -> None:
    """Let the U-Net predict its normalised input plus its random part: about the best linear guess at ε.

    The first group of channels carries ±x through the finest skip connection to the last norm, and
    silu(x) - silu(-x) = x.
    """
    unet = "model.diffusion_model."
    last = f"{unet}output_blocks.{len(family.depths) * (family.blocks_per_level + 1) - 1}"
    written = [f"{unet}input_blocks.0.0", f"{last}.0.out_layers.3", f"{last}.0.skip_connection"]
    written += [f"{last}.1.proj_out"] * (family.up_depths[0] > 0)
    for prefix in written:
        weights[f"{prefix}.weight"][:GROUP] = 0
        weights[f"{prefix}.bias"][:GROUP] = 0
    weights[f"{unet}out.0.weight"][:GROUP] = 1
    weights[f"{unet}out.0.bias"][:GROUP] = 0
    weights[f"{unet}out.2.weight"][:, :GROUP] = 0
    for channel in range(GROUP):
        latent, sign = channel // 2 % LATENT_CHANNELS, 1 - 2 * (channel % 2)
        weights[f"{unet}input_blocks.0.0.weight"][channel, latent, 1, 1] = sign
        weights[f"{last}.0.skip_connection.weight"][channel, WIDTH + channel] = 1
        if channel < 2 * LATENT_CHANNELS:
            weights[f"{unet}out.2.weight"][latent, channel, 1, 1] = sign


def autoencoder(family: Family, seed: int) -> dict[str, Tensor]:
    """TAESD's layers, weighted for latent = 4 Q (block mean of RGB - 1/2) and back, Q [4, 3] orthonormal."""
    encoder, decoder = "first_stage_model.taesd_encoder", "first_stage_model.taesd_decoder"
    weights = {"first_stage_model.vae_scale": torch.tensor(family.latent_scale)}
    weights["first_stage_model.vae_shift"] = torch.tensor(0.0)
    blocks = {encoder: (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), decoder: (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)}
    for side, numbers in blocks.items():
        for prefix in (f"{side}.{number}.conv.{i}" for number in numbers for i in (0, 2, 4)):
            weights |= _zeros(_affine(prefix, VAE_WIDTH, VAE_WIDTH, 3, 3))
    for prefix, outputs, inputs in [
        (f"{encoder}.0", VAE_WIDTH, 3),
        (f"{encoder}.14", LATENT_CHANNELS, VAE_WIDTH),
        (f"{decoder}.1", VAE_WIDTH, LATENT_CHANNELS),
        (f"{decoder}.19", 3, VAE_WIDTH),
    ]:
        weights |= _zeros(_affine(prefix, outputs, inputs, 3, 3))
    rgb = torch.arange(3)
    for prefix in [f"{encoder}.{i}" for i in (2, 6, 10)] + [f"{decoder}.{i}" for i in (7, 12, 17)]:
        weights[f"{prefix}.weight"] = torch.zeros(VAE_WIDTH, VAE_WIDTH, 3, 3)
        if prefix.startswith(encoder):  # Stride 2: the mean of a 2x2 block.
            weights[f"{prefix}.weight"][rgb, rgb, 1:, 1:] = 0.25
        else:
            weights[f"{prefix}.weight"][rgb, rgb, 1, 1] = 1
    basis = torch.linalg.qr(_noise("autoencoder", (LATENT_CHANNELS, 3), seed)).Q
    weights[f"{encoder}.0.weight"][rgb, rgb, 1, 1] = 1
    weights[f"{encoder}.14.weight"][:, :3, 1, 1] = 4 * basis
    weights[f"{encoder}.14.bias"][:] = -2 * basis.sum(1)
    weights[f"{decoder}.1.weight"][:3, :, 1, 1] = basis.T / 4
    weights[f"{decoder}.1.bias"][:3] = 0.5
    weights[f"{decoder}.19.weight"][rgb, rgb, 1, 1] = 1
    return weights


def _zeros(shapes: Shapes) -> dict[str, Tensor]:
    return {key: torch.zeros(shape) for key, shape in shapes}


def _padded(small: dict[str, Tensor], encoder: TextEncoder) -> dict[str, Tensor]:
    """The same function in the real encoder's shapes: layers that add zero, and MLPs widened by zeros.

    The layers go before the last one, because the host also reads the output of the last but one.
    """
    layers, mlp_width = encoder.full
    small_last, last = f".{encoder.layers - 1}.", f".{layers - 1}."
    full = {}
    for key, shape in text_shapes(replace(encoder, layers=layers, mlp_width=mlp_width)):
        norm = ("layer_norm" in key or "ln_" in key) and key.endswith("weight")
        full[key] = (torch.ones if norm else torch.zeros)(shape, dtype=torch.float16)
        weight = None if small_last in key else small.get(key.replace(last, small_last))
        if weight is not None:
            full[key][tuple(map(slice, weight.shape))] = weight
    return full


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a small random-weight checkpoint that ComfyUI loads.")
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    save_file(state_dict(arguments.family, arguments.seed, full_text_encoders=True), arguments.destination)


if __name__ == "__main__":
    main()
