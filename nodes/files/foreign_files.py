"""Safetensors files from anywhere: looked at with care before they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from . import safe_files

LARGEST_HEADER = 16 * 2**20
"""Fifty times what a LoRA with its metadata and a preview needs."""
MOST_TENSORS = 50_000
"""Ten times what a LoRA on every layer of SDXL has."""


@dataclass(frozen=True)
class Header:
    """shapes: of the tensors, by name."""

    shapes: Mapping[str, list[int]]
    metadata: Mapping[str, str]


def read_header(parameter: str, path: Path) -> Header:
    """What a file says before its weights. Raises ValueError unless it is a whole safetensors file of sane size."""
    with _called_damaged(parameter, path):
        safe_files.validate_size(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:  # seen before it takes much time and memory
            raise ValueError(f"a header of {length} bytes")
        with safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            if len(names) > MOST_TENSORS:
                raise ValueError(f"{len(names)} tensors")
            return Header({name: opened.get_slice(name).get_shape() for name in names}, dict(opened.metadata() or {}))


def read(parameter: str, path: Path) -> tuple[dict[str, Tensor], Header]:
    """Its weights, too. Raises ValueError as `read_header`, and unless they are numbers and all of them finite."""
    header = read_header(parameter, path)
    with _called_damaged(parameter, path):
        tensors, _ = safe_files.read(path)
    for name, tensor in tensors.items():
        if tensor.is_complex() or not (tensor.is_floating_point() or tensor.numel() == 1):  # alpha may be an integer
            raise ValueError(f"{parameter}: {path.name} has {tensor.dtype} in {name[:120]!r}, no weights; get it anew.")
        if not safe_files.all_finite(tensor):
            raise ValueError(f"{parameter}: {path.name} is damaged: {name[:120]!r} holds NaN or infinity; get it anew.")
    return tensors, header


@contextmanager
def _called_damaged(parameter: str, path: Path) -> Iterator[None]:
    try:
        yield
    except safe_files.NoRoom as error:
        raise ValueError(f"{parameter}: {error}") from error
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise ValueError(
            f"{parameter}: {path.name} is damaged or no safetensors file ({error}); get it anew."
        ) from error
