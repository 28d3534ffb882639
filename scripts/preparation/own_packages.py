"""Packages that a ComfyUI pins to other versions than the Python has: in a folder of their own, put before the rest."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from .pip import run_pip
from .timeline import Timeline

PINNED = ("comfy-kitchen", "comfy-aimdo", "comfyui-frontend-package")
"""ComfyUI's own packages, which its code calls by names that come and go; it takes any version of the others."""

_INSTALLED = """
import importlib.metadata as m, json, sys
print(json.dumps({d.metadata["Name"].lower().replace("_", "-"): d.version for d in m.distributions()}))
"""


def own_packages(python: Path, comfyui: Path, host_folder: Path, timeline: Timeline) -> Path | None:
    """The folder, made if need be; None where `python` has what this ComfyUI pins."""
    installed = _installed(python)
    wanted = pins((comfyui / "requirements.txt").read_text(encoding="utf-8"))
    differing = sorted(f"{name}=={version}" for name, version in wanted.items() if installed.get(name) != version)
    if not differing:
        return None
    folder = host_folder / "packages" / "+".join(differing).replace("==", "-")
    if not folder.is_dir():
        timeline.say(f"Installing {' '.join(differing)} beside the rest")
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        arguments = ["install", "--no-deps", "--no-compile", "--target", str(partial), *differing]
        run_pip(python, arguments, host_folder / "logs" / "pip-packages.log", timeline)
        partial.replace(folder)
    return folder


def pins(requirements: str) -> dict[str, str]:
    """Versions of `PINNED` by name, as a requirements.txt gives them."""
    lines = (re.fullmatch(r"\s*([\w.-]+)\s*==\s*([\w.]+)\s*(#.*)?", line) for line in requirements.splitlines())
    found = {line[1].lower().replace("_", "-"): line[2] for line in lines if line}
    return {name: found[name] for name in PINNED if name in found}


def _installed(python: Path) -> dict[str, str]:
    answer = subprocess.run([str(python), "-c", _INSTALLED], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])
