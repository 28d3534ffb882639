"""The embedded core back into parts that can be trained further; the inverse of `export.pack`, up to its 8 bits."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from .embedded import CORE, KNOWN_ROWS, KNOWN_TOKENS, TEXT_PREFIX
from .quantization import dequantize
from .text_encoder import TextEncoder
from .unet import UNet
from .vae import TinyVAE

TEXT_PLACES = {"encoder.layers.": "layers.", "embeddings.position_embedding.": "position_embedding."}


def unpack(core: Path = CORE) -> tuple[TinyVAE, TextEncoder, UNet]:
    packed = load_file(core)
    tokens, rows = packed.pop(KNOWN_TOKENS), packed.pop(KNOWN_ROWS)
    state = {name: weight.float() for name, weight in dequantize(packed).items()}
    vae, text, unet = TinyVAE(), TextEncoder(tokens.tolist()), UNet()
    vae.load_exported(_under("first_stage_model.", state))
    text.load_state_dict(
        _text_weights(_under(TEXT_PREFIX, state)) | {"known": tokens.long(), "known_rows": rows.float()}
    )
    unet.load_state_dict(_under("model.diffusion_model.", state))
    return vae.eval(), text.eval(), unet.eval()


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}


def _text_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, weight in weights.items():
        for theirs, ours in TEXT_PLACES.items():
            name = ours + name.removeprefix(theirs) if name.startswith(theirs) else name
        renamed[name] = weight
    return renamed
