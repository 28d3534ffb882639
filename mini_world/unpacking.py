"""The embedded core back into parts that can be trained further; the inverse of `export.pack`, up to its 8 bits."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from .embedded import CORE, KNOWN_ROWS, KNOWN_TOKENS, TEXT_PREFIX, UNET_PREFIX, VAE_PREFIX
from .export import TEXT_PLACES, renamed
from .quantization import dequantize
from .text_encoder import TextEncoder
from .unet import UNet
from .vae import TinyVAE


def unpack(core: Path = CORE) -> tuple[TinyVAE, TextEncoder, UNet]:
    packed = load_file(core)
    tokens, rows = packed.pop(KNOWN_TOKENS), packed.pop(KNOWN_ROWS)
    state = {name: weight.float() for name, weight in dequantize(packed).items()}
    vae, text, unet = TinyVAE(), TextEncoder(tokens.tolist()), UNet()
    vae.load_exported(_under(VAE_PREFIX, state))
    places = {theirs: ours for ours, theirs in TEXT_PLACES.items()}
    learned = renamed(_under(TEXT_PREFIX, state), places)
    text.load_state_dict(learned | {"known": tokens.long(), "known_rows": rows.float()})
    unet.load_state_dict(_under(UNET_PREFIX, state))
    return vae.eval(), text.eval(), unet.eval()


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}
