"""What figures depend on beside the code that made them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from . import ROOT
from .comfyui import comfyui_folder


@cache
def surroundings(device: str) -> dict[str, Any]:
    """What the figures depend on beside the code."""
    host = re.search(r'__version__ = "(.+)"', (comfyui_folder() / "comfyui_version.py").read_text())
    return {
        "commit": commit(),
        "date": date.today().isoformat(),
        "hardware": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "comfyui": host[1] if host else "unknown",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "diffusers", "transformers")},
    }


def commit() -> str:
    """Of this repository, "-dirty" where files differ from it."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return f"{found[1] if found else platform.processor()}, {os.cpu_count()} cores"
