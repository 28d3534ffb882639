"""Files that appear whole or not at all: written beside their place, read back, renamed. What is read is checked first.

Until it is whole, a file lies in a workplace: a hidden folder beside it, which names its process; so another process
removes those of one that was killed.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from ...core_ops.quoting import quoted

MOST_BYTES = 180
"""Of a name in UTF-8: disks take 255, and "-step1000.safetensors" is added."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_ENDINGS = {".safetensors", ".pt", ".bin", ".ckpt"}
_DIFFERS = "what was read back differs from what was written"
_FULL = {errno.ENOSPC, errno.EFBIG, *(getattr(errno, name) for name in ("EDQUOT",) if hasattr(errno, name))}
_LOCKED_WAITS = (0.1, 0.4, 1.0)
"""Seconds between attempts to rename: virus scanners and file indexes hold a new file for a moment."""
_WORKPLACE = re.compile(r"\.core-([0-9a-f]{8})-(\d+)-[0-9a-f]{32}\.tmp")
_SURELY_DEAD = 24 * 3600
"""Seconds: of a workplace that a process on another machine made, and that nothing was written to since."""
_in_use: set[str] = set()
"""Names of this process's own workplaces."""
_written: dict[Path, tuple[int, ...]] = {}
"""Files that this process wrote, as they were then."""


class CannotWrite(OSError):
    """A file could not be written; says why, and what to do."""

    def __init__(self, path: Path, error: Exception) -> None:
        number = error.errno if isinstance(error, OSError) else None
        # The safetensors library has the system's error number in its text only.
        if isinstance(error, SafetensorError) and (found := re.search(r"\(os error (\d+)\)", str(error))):
            number = int(found[1])
        folder = path.parent
        number = errno.EACCES if number == errno.EPERM else number
        remedies = {
            **dict.fromkeys(_FULL, f"Free space on the disk of {folder}, and run again."),
            errno.EROFS: f"{folder} is on a disk that can only be read; choose another folder in ComfyUI's settings.",
            errno.EACCES: f"Close what has it open (on Windows ComfyUI itself, if it loaded this file), and let "
            f"ComfyUI write to {folder}; then run again.",
            errno.ENOENT: f"Something removed it, or its folder {folder}, meanwhile; stop that program, and run again.",
        }
        remedy = remedies.get(number, "Check the disk, and run again.")
        super().__init__(f"{path} could not be written: {getattr(error, 'strerror', None) or error}. {remedy}")


def validate_name(parameter: str, name: str) -> None:
    """Raises ValueError unless `name` is a plain file name on every system that also works after `embedding:`."""
    plain = re.fullmatch(r"[\w][\w.-]{0,99}", name) and len(name.encode(errors="replace")) <= MOST_BYTES
    if not plain or name.endswith(".") or name.split(".")[0].lower() in _RESERVED:
        raise ValueError(
            f"{parameter}: {quoted(name)} cannot be used as a name; take letters, digits, '-', '_' and '.' only "
            f"(no folders, no spaces), at most 100 characters and {MOST_BYTES} bytes, for example 'my-cat'."
        )
    if (ending := Path(name).suffix).lower() in _ENDINGS:
        raise ValueError(f"{parameter}: {name!r} ends in {ending}, which is added by itself; leave it out.")


def taken(path: Path) -> Path | None:
    """The file that has this name already, or would have it on a system where upper and lower case are the same."""
    files = path.parent.iterdir() if path.parent.is_dir() else ()
    return next((file for file in files if file.name.casefold() == path.name.casefold()), None)


def validate_writable(parameter: str, folder: Path) -> None:
    """Raises ValueError, beginning with `parameter`, when no file can be made in `folder`: said before long work."""
    try:
        with _workplace(folder) as place:
            (place / "trial").write_bytes(b"trial")
    except OSError as error:
        raise ValueError(f"{parameter}: {CannotWrite(folder / '…', error)}") from error


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
    """`write` for a text file in UTF-8, its line ends as they are in `text`."""
    write_bytes(path, text.encode(), overwrite)


def write_pair(folder: Path, name: str, texts: Mapping[str, str], overwrite: bool) -> tuple[Path, ...]:
    """Text files NAME and each suffix of `texts`, or NAME-2 and so on when one of them is there; in that order."""
    stems = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    found = ([folder / f"{stem}{suffix}" for suffix in texts] for stem in stems)
    paths = next(paths for paths in found if overwrite or not any(path.exists() for path in paths))
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text, overwrite)
    return tuple(paths)


def write_bytes(path: Path, content: bytes, overwrite: bool) -> None:
    """`write` for a file of any kind."""
    with _renamed_when_whole(path, overwrite) as temporary:
        temporary.write_bytes(content)
        _flush(temporary)
        if temporary.read_bytes() != content:
            raise OSError(_DIFFERS)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Ordinary tensors on the CPU, also when called under inference mode, and metadata.

    They are copies: a mapped file could not be replaced on Windows.
    """
    with torch.inference_mode(False), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def read_metadata(path: Path) -> dict[str, str]:
    """Of a safetensors file, from its header alone."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


class NoRoom(ValueError):
    """A file is larger than what memory has free; says so, and what to do."""


def read_own(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """`read` of what this pack wrote; raises `NoRoom`, or ValueError where some of it is not finite."""
    validate_size(path)
    tensors, metadata = read(path)
    for name, tensor in tensors.items():
        if not all_finite(tensor):
            raise ValueError(f"{name[:120]!r} holds NaN or infinity")
    return tensors, metadata


def all_finite(tensor: Tensor) -> bool:
    """Integers are."""
    return not tensor.is_floating_point() or bool(tensor.float().isfinite().all())


def validate_size(path: Path) -> None:
    """Raises `NoRoom`; a file on the disk may be larger than what it takes."""
    size, free = path.stat().st_size, psutil.virtual_memory().available
    if size > free:
        raise NoRoom(
            f"{path} is {size / 2**30:.1f} GiB large, and {free / 2**30:.1f} GiB of memory are free: close other "
            "programs, and run again."
        )


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensor bytes as they will lie in the file, in hex (modelspec.hash_sha256)."""
    # Their order is the library's own. It is read off a file with one number for each: whole U-Nets are large.
    content = save({name: torch.zeros(1, dtype=tensor.dtype) for name, tensor in tensors.items()})
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    digest = hashlib.sha256()
    for name in sorted(tensors, key=lambda name: header[name]["data_offsets"]):
        digest.update(_bytes(tensors[name].detach().cpu()).numpy().data)
    return "0x" + digest.hexdigest()


def same_tensors(path: Path, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file holds exactly these, bit for bit; one at a time, for a whole U-Net is large."""

    def same(a: Tensor, b: Tensor) -> bool:
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bytes(a), _bytes(b))

    with safe_open(path, framework="pt") as file:
        return set(file.keys()) == tensors.keys() and all(
            same(file.get_tensor(name), tensor) for name, tensor in tensors.items()
        )


def sweep(folders: Iterable[Path]) -> None:
    """Removes the workplaces that processes left behind that were killed."""
    for folder in folders:
        for place in folder.glob(".core-*.tmp"):
            if _left_behind(place):
                shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _renamed_when_whole(path: Path, overwrite: bool) -> Iterator[Path]:
    """An empty file, on the disk of `path`, that takes its name when the block ends well, and is gone otherwise."""
    try:
        with _workplace(path.parent) as place:
            temporary = place / "file"
            temporary.touch()
            permissions = temporary.stat().st_mode
            yield temporary
            with suppress(OSError):  # on a drive that knows no permissions, or lets only its owner change them
                temporary.chmod(permissions)  # safetensors makes files that only their owner may read
            if path.exists() and not overwrite:
                raise FileExistsError(f"{path} exists already; choose another name or switch overwrite on.")
            replace(temporary, path)
            _written[path] = mark_of(path)
    except FileExistsError:
        raise
    except (OSError, SafetensorError) as error:
        raise CannotWrite(path, error) from error


def written_here(path: Path) -> bool:
    """Whether this process wrote the file that is there: what ComfyUI reuses of a node that did is not in its way."""
    return path in _written and _written[path] == mark_of(path)


def mark_of(path: Path) -> tuple[int, ...] | None:
    """Another one for every file that takes its place; None where there is none."""
    found = path.stat() if path.exists() else None
    return found and (found.st_ino, found.st_size, found.st_mtime_ns)


def replace(source: Path, target: Path) -> None:
    """Renames; waits a little for a program that has `target` open."""
    for seconds in _LOCKED_WAITS:
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(seconds)
    os.replace(source, target)


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A hidden folder within `folder`, for one file in the making; gone when the block ends.

    A folder, because the safetensors library makes temporary files of its own beside the file that it writes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep([folder])
    place = folder / f".core-{_machine()}-{os.getpid()}-{uuid.uuid4().hex}.tmp"
    _in_use.add(place.name)
    try:
        place.mkdir()
        yield place
    finally:
        _in_use.discard(place.name)
        shutil.rmtree(place, ignore_errors=True)


def _left_behind(place: Path) -> bool:
    """Whether the process that made a workplace was killed; where that cannot be known, it was not."""
    match = _WORKPLACE.fullmatch(place.name)
    if match is None or not place.is_dir() or place.name in _in_use:
        return False
    try:
        made = place.stat().st_mtime
        if match[1] != _machine():
            return time.time() - made > _SURELY_DEAD
        process = int(match[2])
        # The number may be another program's by now, or ours: containers begin to count anew.
        return process == os.getpid() or psutil.Process(process).create_time() > made + 1
    except psutil.NoSuchProcess:
        return True
    except (OSError, psutil.Error):
        return False


def _machine() -> str:
    """Folders may be shared between machines, whose process numbers mean nothing here."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _flush(path: Path) -> None:
    """Returns when the content is on the disk itself."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _bytes(tensor: Tensor) -> Tensor:
    """A tensor's content as it lies in memory, [bytes] in uint8."""
    return tensor.contiguous().flatten().view(torch.uint8)
