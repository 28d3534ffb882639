"""A worker process from the outside: asked for one case after another, and never waited for without end."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import ROOT

COMMAND = (sys.executable, "-m", "lab.gpu.worker")


@dataclass(frozen=True)
class Setup:
    """What one worker process is to be: a line of JSON between the two.

    stage: the module that measures. folder: ComfyUI's base folder, and what workers share. dynamic_vram: ComfyUI's
    option, for which a library has to come before torch.
    """

    stage: str
    folder: str
    small: bool
    device: str = "cuda"
    dynamic_vram: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Setup:
        return Setup(**json.loads(text))


class Worker:
    """Starts with the first case, and anew after it ended or was stopped; a context manager."""

    def __init__(self, setup: Setup, command: Sequence[str] = COMMAND) -> None:
        self._setup, self._command = setup, command
        self._log = Path(setup.folder) / f"{setup.stage}-{setup.device}.log"
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    def ask(self, case: dict[str, Any], until: float) -> dict[str, Any]:
        """`send`, and `receive`."""
        self.send(case)
        return self.receive(until)

    def send(self, case: dict[str, Any]) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process and self._process.stdin
        print(json.dumps(case), file=self._process.stdin, flush=True)

    def receive(self, until: float) -> dict[str, Any]:
        """The answer, which has "error" where there is none, and "late" where it took longer than `until`.

        until: a time of `time.monotonic`.
        """
        try:
            line = self._lines.get(timeout=max(until - time.monotonic(), 0))
        except queue.Empty:
            self._stop()
            return {"error": "stopped: the stage's time was up", "late": True}
        if line:
            return json.loads(line)
        self._stop()
        last = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()][-1:]
        return {"error": f"the process ended by itself: {''.join(last)[:300]}"}

    def _start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*self._command, self._setup.to_json()],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._lines = queue.Queue()
        threading.Thread(target=_listen, args=(self._process.stdout, self._lines), daemon=True).start()

    def _stop(self) -> None:
        """What it has started itself ends with it: their standard input closes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _listen(stream: Any, lines: queue.Queue[str]) -> None:
    """An empty line is the end."""
    for line in stream:
        lines.put(line)
    lines.put("")
