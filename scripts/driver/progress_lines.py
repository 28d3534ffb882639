"""One line per node: its title, percentage, and time left."""

from __future__ import annotations

import time
from typing import Any, TextIO

TITLE_WIDTH = 32


class ProgressLines:
    """Call it with every message of a running workflow. A terminal sees its lines move, a file each tenth."""

    def __init__(self, workflow: dict[str, Any], stream: TextIO) -> None:
        self._workflow = workflow
        self._stream = stream
        self._node: str | None = None
        self._start = 0.0
        self._shown_tenth = 0

    def __call__(self, message: dict[str, Any]) -> None:
        data = message.get("data", {})
        if message["type"] == "executing":
            self._finish()
            self._begin(data["node"])
        elif message["type"] == "progress" and data.get("node") == self._node:
            self._update(data["value"], data["max"])
        elif message["type"] in ("execution_error", "execution_interrupted"):
            self._node = None

    def _begin(self, node: str | None) -> None:
        self._node, self._start, self._shown_tenth = node, time.monotonic(), 0

    def _update(self, value: float, maximum: float) -> None:
        share = min(value / maximum, 1.0) if maximum else 0.0
        if share in (0.0, 1.0):
            return
        left = self._elapsed() * (1 - share) / share
        text = f"{100 * share:4.0f}%  {_duration(left)} left"
        if self._stream.isatty():
            self._write(f"\r{self._title()}{text:<24}")
        elif int(10 * share) > self._shown_tenth:
            self._shown_tenth = int(10 * share)
            self._write(f"{self._title()}{text}\n")

    def _finish(self) -> None:
        if self._node is not None:
            start = "\r" if self._stream.isatty() else ""
            self._write(f"{start}{self._title()}{' 100%  in ' + _duration(self._elapsed()):<24}".rstrip(" ") + "\n")

    def _title(self) -> str:
        node = self._workflow.get(self._node or "", {})
        title = node.get("_meta", {}).get("title") or node.get("class_type") or f"node {self._node}"
        return f"  {title[:TITLE_WIDTH]:<{TITLE_WIDTH}}"

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _duration(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
