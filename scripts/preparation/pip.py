"""pip as a subprocess: signs of life while it works, and one paragraph when it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import PreparationError
from .timeline import Timeline

HEARTBEAT_SECONDS = 20
NO_SPACE = ("No space left on device", "not enough space on the disk", "Disk quota exceeded")
WRONG_HASH = ("DO NOT MATCH THE HASHES",)
NO_NETWORK = (
    "NewConnectionError",
    "Failed to establish a new connection",
    "NameResolutionError",
    "Temporary failure in name resolution",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Read timed out",
    "ProxyError",
    "SSLError",
    "ConnectionResetError",
    "Connection broken",
    "Network is unreachable",
)


def run_pip(python: Path, arguments: Sequence[str], log: Path, timeline: Timeline) -> None:
    """Runs `python -m pip`, its output in `log`. Raises PreparationError when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        while _still_running(process):
            timeline.say(f"  ... {_last_line(log)[:90]}")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode:
        raise PreparationError(explain_failure(log.read_text(encoding="utf-8", errors="replace"), log))


def explain_failure(output: str, log: Path) -> str:
    if any(sign in output for sign in NO_SPACE):
        return f"The disk is full. Make room and run the command again; it goes on where it stopped. Details: {log}"
    if any(sign in output for sign in WRONG_HASH):
        return (
            "The package index serves another file than the one this project was tested with: its SHA-256 "
            f"differs, so it was refused. Set COMFYUI_PATH to use a ComfyUI of your own. Details: {log}"
        )
    if any(sign in output for sign in NO_NETWORK):
        return (
            "pip could not reach the package index. Check the network, the proxy and pip's configuration "
            f"(pip config list), then run the command again; it goes on where it stopped. Details: {log}"
        )
    tail = "\n".join(f"    {line}" for line in output.strip().splitlines()[-8:])
    return f"pip failed. The end of what it said, all of it in {log}:\n{tail}"


def _still_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(HEARTBEAT_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = (line.strip() for line in reversed(lines) if "WARNING" not in line and any(map(str.isalnum, line)))
    return next(told, "pip is starting").split(": ")[0]  # The list of collected packages fills a screen.
