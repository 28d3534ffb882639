"""A ComfyUI and the Python that runs it: the user's own, or prepared in .venv and .host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import comfyui_source
from .errors import PreparationError
from .pip import run_pip
from .python_environment import Environment, check_python
from .timeline import Timeline

ROOT = Path(__file__).resolve().parents[2]
HOST_FOLDER = ROOT / ".host"
DEMO_MODULES = ("torch", "aiohttp", "matplotlib", "comfy_cli", "websocket")
TEST_MODULES = (*DEMO_MODULES, "pytest", "xdist", "hypothesis", "diffusers", "einops")


@dataclass(frozen=True)
class Installation:
    """comfyui: the folder with main.py. python: the executable that has its requirements."""

    comfyui: Path
    python: Path

    def environment(self) -> dict[str, str]:
        """Environment variables for programs that look for this installation."""
        return {**os.environ, "COMFYUI_PATH": str(self.comfyui), "COMFYUI_PYTHON": str(self.python)}


def prepare(timeline: Timeline, modules: Sequence[str]) -> Installation:
    """The installation of COMFYUI_PATH, which must have `modules`; without one our own, made if need be."""
    return existing_installation(os.environ, modules) or _own_installation(timeline)


def existing_installation(variables: Mapping[str, str], modules: Sequence[str]) -> Installation | None:
    """What COMFYUI_PATH and COMFYUI_PYTHON name; None without the first. Nothing in it is changed."""
    if not variables.get("COMFYUI_PATH"):
        return None
    comfyui = Path(variables["COMFYUI_PATH"]).expanduser().resolve()
    if not comfyui_source.is_comfyui(comfyui):
        raise PreparationError(
            f"COMFYUI_PATH is {comfyui}, which is not a ComfyUI: main.py, nodes.py, server.py and comfy/ must "
            "be in it. Set it to the folder that you start ComfyUI from, or unset it to have one prepared."
        )
    python = _python_of(comfyui, variables.get("COMFYUI_PYTHON"))
    missing = _missing_modules(python, modules)
    if missing:
        raise PreparationError(
            f"{python}, the Python of COMFYUI_PATH, lacks {', '.join(missing)}. Install the tools with "
            f'"{python}" -m pip install --group "{ROOT / "pyproject.toml"}:test" (pip 25.1 or newer), '
            "or set COMFYUI_PYTHON to the Python that has them."
        )
    return Installation(comfyui, python)


def _python_of(comfyui: Path, named: str | None) -> Path:
    """Not resolved: a venv's Python is a link, and what it links to does not see the venv's packages."""
    if named:
        found = shutil.which(os.path.expanduser(named))
        if not found:
            raise PreparationError(f"COMFYUI_PYTHON is {named}, which is no executable. Set it to ComfyUI's Python.")
        return Path(found).absolute()
    places = [comfyui / name / "bin/python" for name in (".venv", "venv")]
    places += [comfyui / name / "Scripts/python.exe" for name in (".venv", "venv")]
    places += [comfyui.parent / "python_embeded/python.exe"]  # ComfyUI's Windows package spells it so.
    return next((place for place in places if place.exists()), Path(sys.executable))


def _missing_modules(python: Path, modules: Sequence[str]) -> list[str]:
    code = "import importlib.util as u, sys; print(*(m for m in sys.argv[1:] if not u.find_spec(m)))"
    try:
        answer = subprocess.run([str(python), "-c", code, *modules], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PreparationError(f"{python}, the Python of COMFYUI_PATH, does not run: {error}") from error
    return answer.stdout.split()


def _own_installation(timeline: Timeline) -> Installation:
    comfyui = HOST_FOLDER / f"ComfyUI-{comfyui_source.COMFYUI_VERSION}"
    environment = Environment(ROOT / ".venv", ROOT / "pyproject.toml", HOST_FOLDER / "logs")
    if not (comfyui_source.is_comfyui(comfyui) and environment.is_ready()):
        check_python()
        timeline.say("Preparing Python packages and ComfyUI, once; later runs reuse them")
        environment.create(timeline)
        if not comfyui_source.is_comfyui(comfyui):
            _fetch_comfyui(environment, comfyui, timeline)
        environment.install(comfyui / "requirements.txt", timeline)
        timeline.say("Prepared")
    return Installation(comfyui, environment.python)


def _fetch_comfyui(environment: Environment, target: Path, timeline: Timeline) -> None:
    timeline.say(f"Fetching ComfyUI {comfyui_source.COMFYUI_VERSION}")
    downloads = HOST_FOLDER / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    archive = downloads / comfyui_source.ARCHIVE_NAME
    if not archive.exists():
        arguments = comfyui_source.pip_download_arguments(downloads / "comfyui.txt", downloads)
        run_pip(environment.python, arguments, environment.logs / "pip-download.log", timeline)
    comfyui_source.verify_hash(archive)
    comfyui_source.unpack(archive, target)
    archive.unlink()
