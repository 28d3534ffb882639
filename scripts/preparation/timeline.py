"""Plain lines with the time since the start."""

from __future__ import annotations

import time


class Timeline:
    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, message: str) -> None:
        print(f"[{time.monotonic() - self._start:5.0f} s] {message}", flush=True)
