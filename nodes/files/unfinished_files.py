"""Files in the making: where they lie until they are whole, what goes wrong there, and what a killed process left."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from safetensors import SafetensorError

_NAME = re.compile(r"\.core-([0-9a-f]{8})-(\d+)-[0-9a-f]{32}\.tmp")
_SURELY_DEAD = 24 * 3600
"""Seconds: of a workplace that a process on another machine made, and that nothing was written to since."""
_in_use: set[str] = set()
"""Names of this process's own workplaces."""
_LOCKED_WAITS = (0.1, 0.4, 1.0)
"""Seconds between attempts: virus scanners and file indexes hold a new file for a moment."""
_FULL = {errno.ENOSPC, errno.EFBIG, *(getattr(errno, name) for name in ("EDQUOT",) if hasattr(errno, name))}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


class CannotWrite(OSError):
    """A file could not be written; says why, and what to do."""

    def __init__(self, path: Path, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        super().__init__(f"{path} could not be written: {reason}. {_remedy(_number(error), path)}")


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
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


def sweep(folders: Iterable[Path]) -> None:
    """Removes the workplaces that processes left behind that were killed."""
    for folder in folders:
        for place in folder.glob(".core-*.tmp"):
            if _left_behind(place):
                shutil.rmtree(place, ignore_errors=True)


def replace(source: Path, target: Path) -> None:
    """Renames; waits a little for a program that has `target` open."""
    for seconds in _LOCKED_WAITS:
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(seconds)
    os.replace(source, target)


def validate_writable(parameter: str, folder: Path) -> None:
    """Raises ValueError, beginning with `parameter`, when no file can be made in `folder`: said before long work."""
    try:
        with workplace(folder) as place:
            (place / "trial").write_bytes(b"trial")
    except OSError as error:
        raise ValueError(f"{parameter}: {CannotWrite(folder / '…', error)}") from error


def _left_behind(place: Path) -> bool:
    match = _NAME.fullmatch(place.name)
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


def _number(error: Exception) -> int | None:
    """The system's error number; the safetensors library has it in its text only."""
    if isinstance(error, OSError):
        return error.errno
    match = _OS_ERROR.search(str(error)) if isinstance(error, SafetensorError) else None
    return int(match[1]) if match else None


def _remedy(number: int | None, path: Path) -> str:
    if number in _FULL:
        return f"Free space on the disk of {path.parent}, and run again."
    if number == errno.EROFS:
        return f"{path.parent} is on a disk that can only be read; choose another folder in ComfyUI's settings."
    if number in (errno.EACCES, errno.EPERM):
        return f"Close programs that have it open, and let ComfyUI write to {path.parent}; then run again."
    if number == errno.ENOENT:
        return f"Something removed it, or its folder {path.parent}, meanwhile; stop that program, and run again."
    return "Check the disk, and run again."
