"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from ...core_ops.quoting import quoted
from .unfinished_files import CannotWrite, replace, workplace

LARGEST_HEADER = 16 * 2**20
"""Of a file from anywhere: fifty times what a LoRA with its metadata and a preview needs."""

MOST_TENSORS = 50_000
"""In a file from anywhere: ten times what a LoRA on every layer of SDXL has."""

MOST_BYTES = 180
"""Of a name in UTF-8: disks take 255, and "-step1000.safetensors" is added."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_DIFFERS = "what was read back differs from what was written"


def validate_name(parameter: str, name: str) -> None:
    """Raises ValueError unless `name` is a plain file name on every system that also works after `embedding:`."""
    plain = re.fullmatch(r"[\w][\w.-]{0,99}", name) and len(name.encode(errors="replace")) <= MOST_BYTES
    if not plain or name.endswith(".") or name.split(".")[0].lower() in _RESERVED:
        raise ValueError(
            f"{parameter}: {quoted(name)} cannot be used as a name; take letters, digits, '-', '_' and '.' only "
            f"(no folders, no spaces), at most 100 and {MOST_BYTES} bytes, for example 'my-cat'."
        )


def taken(path: Path) -> Path | None:
    """The file that has this name already, or would have it on a system where upper and lower case are the same."""
    files = path.parent.iterdir() if path.parent.is_dir() else ()
    return next((file for file in files if file.name.casefold() == path.name.casefold()), None)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], overwrite: bool) -> None:
    """Writes a safetensors file under a temporary name, reads it back, and renames it.

    Raises FileExistsError when `path` exists and may not be overwritten, CannotWrite (an OSError that says what to do)
    when the disk is full and the like.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with _renamed_when_whole(path, overwrite) as temporary:
        save_file(contiguous, temporary, dict(metadata))
        _flush(temporary)
        if not same_tensors(temporary, contiguous):
            raise OSError(_DIFFERS)


def write_text(path: Path, text: str, overwrite: bool) -> None:
    """The same for a text file in UTF-8, its line ends as they are in `text`."""
    write_bytes(path, text.encode(), overwrite)


def write_bytes(path: Path, content: bytes, overwrite: bool) -> None:
    """The same for a file of any kind."""
    with _renamed_when_whole(path, overwrite) as temporary:
        temporary.write_bytes(content)
        _flush(temporary)
        if temporary.read_bytes() != content:
            raise OSError(_DIFFERS)


@contextmanager
def _renamed_when_whole(path: Path, overwrite: bool) -> Iterator[Path]:
    """An empty file, on the disk of `path`, that takes its name when the block ends well, and is gone otherwise."""
    try:
        with workplace(path.parent) as place:
            temporary = place / "file"
            temporary.touch()
            permissions = temporary.stat().st_mode
            yield temporary
            temporary.chmod(permissions)  # safetensors makes files that only their owner may read
            if path.exists() and not overwrite:
                raise FileExistsError(f"{path} exists already; choose another name or switch overwrite on.")
            replace(temporary, path)
    except FileExistsError:
        raise
    except (OSError, SafetensorError) as error:
        raise CannotWrite(path, error) from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Ordinary tensors on the CPU, also when called under inference mode, and metadata.

    They are copies: a mapped file could not be replaced on Windows.
    """
    with torch.inference_mode(False), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def read_foreign(parameter: str, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """`read` of a file from anywhere.

    Raises ValueError unless it is a whole safetensors file of sane size that holds weights, all of them finite.
    """
    try:
        _validate_size(path)
        _validate_header(path)
        tensors, metadata = read(path)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise ValueError(
            f"{parameter}: {path.name} is damaged or no safetensors file ({error}); get it anew."
        ) from error
    for name, tensor in tensors.items():
        if tensor.is_complex() or not (tensor.is_floating_point() or tensor.numel() == 1):  # alpha may be an integer
            raise ValueError(f"{parameter}: {path.name} has {tensor.dtype} in {name[:120]!r}, no weights; get it anew.")
        if not _all_finite(tensor):
            raise ValueError(f"{parameter}: {path.name} is damaged: {name[:120]!r} holds NaN or infinity; get it anew.")
    return tensors, metadata


def read_own(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """`read` of what this pack wrote; raises ValueError when there is no room for it, or some of it is not finite."""
    _validate_size(path)
    tensors, metadata = read(path)
    for name, tensor in tensors.items():
        if not _all_finite(tensor):
            raise ValueError(f"{name[:120]!r} holds NaN or infinity")
    return tensors, metadata


def _all_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.float().isfinite().all())


def _validate_size(path: Path) -> None:
    """Raises ValueError for a file that memory has no room for; a file on the disk may be larger than what it takes."""
    size, free = path.stat().st_size, psutil.virtual_memory().available
    if size > free:
        raise ValueError(f"{size / 2**30:.1f} GiB large, and {free / 2**30:.1f} GiB of memory are free")


def _validate_header(path: Path) -> None:
    """Raises ValueError for a header that would take much time and memory."""
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > LARGEST_HEADER:
        raise ValueError(f"a header of {header} bytes")
    with safe_open(path, framework="pt") as opened:
        count = len(opened.keys())
    if count > MOST_TENSORS:
        raise ValueError(f"{count} tensors")


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensor bytes as they will lie in the file, in hex (modelspec.hash_sha256)."""
    digest = hashlib.sha256()
    for name in _order_in_file(tensors):
        digest.update(_bytes(tensors[name].detach().cpu()).numpy().data)
    return "0x" + digest.hexdigest()


def _order_in_file(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names in the order of their bytes, read off a file with one number for each; whole U-Nets are large."""
    content = save({name: torch.zeros(1, dtype=tensor.dtype) for name, tensor in tensors.items()})
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return sorted(tensors, key=lambda name: header[name]["data_offsets"])


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def same_tensors(path: Path, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file holds exactly these, bit for bit; one at a time, for a whole U-Net is large."""
    with safe_open(path, framework="pt") as file:
        return set(file.keys()) == tensors.keys() and all(
            _same_bits(file.get_tensor(name), tensor) for name, tensor in tensors.items()
        )


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bytes(a), _bytes(b))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)
