"""What makes the host and the pretended card wait for each other, by the line of Python that caused it."""

from __future__ import annotations

import ctypes
import os
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_HEARS = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_longlong)


@dataclass(frozen=True)
class Event:
    """A copy between host and card, or a wait for the card.

    kind: "wait", "to card", "to host", either of these with ", not waited for", or "scalar": a number in the host's
    memory that an operation on the card reads, for which nothing waits.
    operation: of aten or of the runtime. place and line: the innermost in the watched folder, with its function:
    "nodes/host/models/denoiser.py: __call__".
    """

    kind: str
    operation: str
    place: str
    line: int

    @property
    def waits(self) -> bool:
        return self.kind in ("wait", "to card", "to host")


def is_pretended() -> bool:
    """Whether this process's card is the pretended one."""
    return "fake-gpu" in os.environ.get("LD_PRELOAD", "") and hasattr(ctypes.CDLL(None), "fake_gpu_listen")


@contextmanager
def watching(folder: Path) -> Iterator[Counter[Event]]:
    """Counts the events until the end of the block. Lines of Python are those of files in `folder`, hidden ones not."""
    found: Counter[Event] = Counter()

    def hears(kind: bytes, operation: bytes, _bytes: int) -> None:
        found[Event(kind.decode(), operation.decode(), *_innermost(folder))] += 1

    function = _HEARS(hears)
    runtime = ctypes.CDLL(None)
    runtime.fake_gpu_listen(function)
    try:
        yield found
    finally:
        runtime.fake_gpu_listen(None)


def _innermost(folder: Path) -> tuple[str, int]:
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(folder) and path != Path(__file__):
            place = path.relative_to(folder)
            if not place.parts[0].startswith("."):  # a ComfyUI or packages that were prepared there
                return f"{place}: {frame.name}", frame.lineno or 0
    return "-", 0
