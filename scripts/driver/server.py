"""A ComfyUI server as a child process: started, waited for, stopped."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from preparation.errors import PreparationError
from preparation.pack_link import PACK_FOLDER

from .base_folder import BaseFolder

HOST = "127.0.0.1"
START_SECONDS = 300
STOP_SECONDS = 15
TIED = Path(__file__).with_name("tied.py")


class ComfyUIServer:
    """Runs while the `with` block does, and no longer than this process. Its log is in the base folder."""

    def __init__(
        self, comfyui: Path, base: BaseFolder, port: int = 0, output: Path | None = None, options: Sequence[str] = ()
    ) -> None:
        """port: 0 for any free one. output: for pictures, if not the base folder's.

        options: further words of ComfyUI's command line.
        """
        self.base = base
        self.output = output or base.output
        self.log = base.path / "server.log"
        self.port = claim_port(port)
        device = [] if "--cpu" in options else device_arguments()
        words = [*self._arguments(), *options, *device]
        self._command = [sys.executable, "-u", str(TIED), str(comfyui / "main.py"), *words]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> ComfyUIServer:
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C reaches whoever started this, who then stops it.
            self._process = subprocess.Popen(
                self._command,
                cwd=self.base.path,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def failure(self, what: str) -> PreparationError:
        """An error that shows how the log ends."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = re.sub(r"\x1b\[[\d;]*m", "", text).strip().splitlines()  # Without the colours.
        tail = "\n".join(f"    {line}" for line in lines[-15:])
        return PreparationError(f"{what} The end of its log, all of it in {self.log}:\n{tail}")

    def _wait_until_ready(self) -> None:
        assert self._process
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise self.failure(f"ComfyUI ended while starting, with exit status {self._process.returncode}.")
            try:
                urllib.request.urlopen(f"http://{self.address}/system_stats", timeout=5).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise self.failure(f"ComfyUI did not answer within {START_SECONDS} s.")

    def _arguments(self) -> list[str]:
        base = self.base.path
        return [
            *("--listen", HOST, "--port", str(self.port)),
            *("--base-directory", str(base), "--output-directory", str(self.output)),
            *("--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"),
            *("--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK_FOLDER),
            *("--disable-api-nodes", "--disable-auto-launch"),
        ]


def claim_port(port: int) -> int:
    """The port itself, or any free one for 0. Raises PreparationError when something listens there."""
    with socket.socket() as probe:
        # As a server does: a port used a moment ago counts as free. On Windows the option means more.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(sys.platform != "win32"))
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PreparationError(
                f"Port {port} is taken or not allowed ({error.strerror}). Choose another with "
                "--comfyui-port, or leave the option out and a free one is found."
            ) from error
        return probe.getsockname()[1]


def device_arguments() -> list[str]:
    """ComfyUI looks for a GPU and fails without one, unless it is told."""
    import torch

    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
    return [] if accelerated else ["--cpu"]
