"""The checkpoint that the repository carries, and its expansion into an ordinary one.

`python -m lab world expand DESTINATION` writes it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .networks.clip_fill import LAYERS, identity_layer, unknown_token_rows
from .networks.quantization import dequantize

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "world"
CORE = FOLDER / "core.safetensors"
CHECKSUM = FOLDER / "expanded.sha256"
UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
TEXT_PREFIX = "cond_stage_model.transformer.text_model."
KNOWN_TOKENS = "known_tokens"
KNOWN_ROWS = "known_token_rows"


def expand(destination: Path, core: Path = CORE, checksum: Path = CHECKSUM) -> Path:
    """Writes the checkpoint that ComfyUI loads (fp16, about 300 MB), unless an intact one is there.

    Raises ValueError if the result is not what was exported.
    """
    expected = checksum.read_text(encoding="ascii").split()[0]
    if destination.is_file() and sha256(destination) == expected:
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=destination.parent, suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        write_checkpoint(core, partial)
        found = sha256(partial)
        if found != expected:
            raise ValueError(f"{core}: expands to sha256 {found}, expected {expected}. Restore the file from git.")
        partial.chmod(0o644)
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)
    return destination


def write_checkpoint(core: Path, destination: Path) -> None:
    with safe_open(core, framework="pt") as file:
        packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
        metadata = file.metadata()
    save_file(rebuild(packed), destination, {"modelspec.title": metadata["modelspec.title"]})


def rebuild(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """All of a checkpoint's weights in fp16, from those that were trained."""
    packed = dict(packed)
    tokens = packed.pop(KNOWN_TOKENS).long()
    rows = unknown_token_rows().half()
    rows[tokens] = packed.pop(KNOWN_ROWS)
    state = dequantize(packed)
    state[f"{TEXT_PREFIX}embeddings.token_embedding.weight"] = rows
    for index in range(LAYERS):
        for name, weight in identity_layer().items():
            state.setdefault(f"{TEXT_PREFIX}encoder.layers.{index}.{name}", weight.half())
    return state


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def provenance(core: Path = CORE) -> dict[str, str]:
    """How, when and from what the core was trained, with its licence."""
    with safe_open(core, framework="pt") as file:
        return file.metadata()
