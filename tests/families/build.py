"""Small random-weight checkpoints with the keys and shapes by which ComfyUI recognises the real families.

    python -m families.build sd1 DEST.safetensors --seed 0      in tests/

What makes a family (width 320, context width, depth pattern, key names) is real; the number of blocks and the
text encoders are small. The weights are random but not degenerate: activations are of order 1, attention is
peaked, outputs depend on every token, ε models pass their input on so that sampling denoises, and the VAE
(TAESD's architecture) reconstructs the mean colour of every 8x8 block.
"""

from __future__ import annotations

import argparse
import math
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .shapes import CLIP_H as CLIP_H
from .shapes import FAMILIES, LATENT_CHANNELS, WIDTH, Family, Shapes, TextEncoder, affine, text_shapes, unet_shapes

GROUP = WIDTH // 32  # Channels of one group of the U-Net's group norms.
VAE_WIDTH = 64
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


def save_half(family: Family, path: Path) -> None:
    """A checkpoint of any size as people have it: all of it in float16."""
    weights = checkpoint(family, full_text_encoders=True)
    for key in weights:
        weights[key] = weights[key].half()
    save_file(weights, path)


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
    written += [f"{last}.1.proj_out"] * bool(family.up_depths[0])
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
            weights |= _zeros(affine(prefix, VAE_WIDTH, VAE_WIDTH, 3, 3))
    for prefix, outputs, inputs in [
        (f"{encoder}.0", VAE_WIDTH, 3),
        (f"{encoder}.14", LATENT_CHANNELS, VAE_WIDTH),
        (f"{decoder}.1", VAE_WIDTH, LATENT_CHANNELS),
        (f"{decoder}.19", 3, VAE_WIDTH),
    ]:
        weights |= _zeros(affine(prefix, outputs, inputs, 3, 3))
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
