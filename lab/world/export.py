"""Trained parts to the 8-bit core, with its provenance and the checksum of what it expands to; and back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .embedded import (
    CHECKSUM,
    CORE,
    KNOWN_ROWS,
    KNOWN_TOKENS,
    TEXT_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
    sha256,
    write_checkpoint,
)
from .networks.quantization import dequantize, quantize
from .networks.text_encoder import TextEncoder
from .networks.unet import UNet
from .networks.vae import TinyVAE

TITLE = "CoRe mini world"
TEXT_PLACES = {"layers.": "encoder.layers.", "position_embedding.": "embeddings.position_embedding."}
"""Our names in the text encoder, and those that ComfyUI reads."""


def export_core(vae: TinyVAE, text: TextEncoder, unet: UNet, provenance: dict[str, str], core: Path = CORE) -> None:
    """Writes the 8-bit core, and beside it the sha256 of the checkpoint that it expands to."""
    metadata = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": TITLE,
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.license": "MIT",
        "modelspec.resolution": "64x64",
        "modelspec.prediction_type": "epsilon",
        "modelspec.description": "Drawn pictures of ten kinds of things in eight places, learned from scratch.",
        **provenance,
    }
    core.parent.mkdir(parents=True, exist_ok=True)
    partial = core.with_suffix(".partial")
    save_file(pack(vae, text, unet), partial, metadata)
    partial.chmod(0o644)
    partial.replace(core)
    with tempfile.TemporaryDirectory() as folder:
        expanded = Path(folder) / "expanded.safetensors"
        write_checkpoint(core, expanded)
        core.with_name(CHECKSUM.name).write_text(f"{sha256(expanded)}  core_mini_world.safetensors\n", encoding="ascii")


@torch.no_grad()
def pack(vae: TinyVAE, text: TextEncoder, unet: UNet) -> dict[str, Tensor]:
    """Everything that was trained, under the names that ComfyUI reads; the rest `embedded.rebuild` knows."""
    known = ("known", "known_rows")
    learned = {name: weight for name, weight in text.state_dict().items() if name not in known}
    parts = {UNET_PREFIX: unet.state_dict(), VAE_PREFIX: vae.exported(), TEXT_PREFIX: renamed(learned, TEXT_PLACES)}
    state = {prefix + name: weight.cpu() for prefix, part in parts.items() for name, weight in part.items()}
    packed = quantize(state)
    packed[KNOWN_TOKENS] = text.known.cpu().int()
    packed[KNOWN_ROWS] = text.known_rows.detach().cpu().half()
    return {name: weight.contiguous() for name, weight in packed.items()}


def renamed(weights: dict[str, Tensor], places: dict[str, str]) -> dict[str, Tensor]:
    """places: beginnings of names, and what stands for them."""
    names = {name: next((old for old in places if name.startswith(old)), "") for name in weights}
    return {places.get(old, "") + name.removeprefix(old): weights[name] for name, old in names.items()}


def unpack(core: Path = CORE) -> tuple[TinyVAE, TextEncoder, UNet]:
    """The inverse of `pack`, up to its 8 bits."""
    packed = load_file(core)
    tokens, rows = packed.pop(KNOWN_TOKENS), packed.pop(KNOWN_ROWS)
    state = {name: weight.float() for name, weight in dequantize(packed).items()}
    vae, text, unet = TinyVAE(), TextEncoder(tokens.tolist()), UNet()
    vae.load_exported(_under(VAE_PREFIX, state))
    learned = renamed(_under(TEXT_PREFIX, state), {theirs: ours for ours, theirs in TEXT_PLACES.items()})
    text.load_state_dict(learned | {"known": tokens.long(), "known_rows": rows.float()})
    unet.load_state_dict(_under(UNET_PREFIX, state))
    return vae.eval(), text.eval(), unet.eval()


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}
