"""Which torch: the one that the running Python has already, or a set of versions known to fit together."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PINNED = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
OLDEST = (2, 5)  # ComfyUI's own minimum.

_PROBE = """
import json, torch, torchaudio, torchvision
modules = (torch, torchvision, torchaudio)
print(json.dumps([[module.__version__, module.__file__] for module in modules]))
"""


@dataclass(frozen=True)
class TorchStack:
    """folders: of site-packages in which the three packages lie."""

    torch: str
    torchvision: str
    torchaudio: str
    folders: tuple[str, ...]


def installed_stack(python: str = sys.executable) -> TorchStack | None:
    """The stack that `python` can import, if it is one that ComfyUI runs on.

    It is imported and not only looked up, because builds for different CUDA versions fail only then.
    """
    probe = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True)
    if probe.returncode:
        return None
    found = json.loads(probe.stdout.splitlines()[-1])
    torch, torchvision, torchaudio = (version for version, _ in found)
    folders = sorted({str(Path(file).parent.parent) for _, file in found})
    if not fits(torch, torchvision, torchaudio):
        return None
    return TorchStack(torch, torchvision, torchaudio, tuple(folders))


def fits(torch: str, torchvision: str, torchaudio: str) -> bool:
    """torch 2.N goes with torchvision 0.(N + 15) and torchaudio 2.N."""
    major, minor = _release(torch)
    return (
        (major, minor) >= OLDEST and _release(torchaudio) == (major, minor) and _release(torchvision) == (0, minor + 15)
    )


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
