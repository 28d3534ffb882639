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
from .comfyui_source import COMFYUI, SOURCES, Source
from .errors import PreparationError
from .own_packages import own_packages
from .pip import run_pip
from .python_environment import Environment, check_python
from .timeline import Timeline

ROOT = Path(__file__).resolve().parents[2]
HOST_FOLDER = ROOT / ".host"
DEMO_MODULES = ("torch", "aiohttp", "matplotlib", "comfy_cli", "websocket")
TEST_MODULES = (
    *(*DEMO_MODULES, "pytest", "xdist", "hypothesis", "diffusers", "einops", "prodigyopt", "pillow_heif"),
    *("onnx", "onnxruntime"),
)


@dataclass(frozen=True)
class Installation:
    """comfyui: the folder with main.py. python: the executable that has its requirements.

    packages: a folder that goes before what the executable has.
    """

    comfyui: Path
    python: Path
    packages: Path | None = None

    def environment(self) -> dict[str, str]:
        """Environment variables for programs that look for this installation."""
        found = {**os.environ, "COMFYUI_PATH": str(self.comfyui), "COMFYUI_PYTHON": str(self.python)}
        if self.packages:
            found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self.packages), found.get("PYTHONPATH")]))
        return found


def prepare(timeline: Timeline, modules: Sequence[str], comfyui: str | None = None) -> Installation:
    """The installation of COMFYUI_PATH, which must have `modules`; without one our own, made if need be.

    comfyui: the version of another one on the package index, or the folder of a checkout; with the same Python.
    """
    if comfyui is None:
        return existing_installation(os.environ, modules) or _own_installation(timeline)
    return _other_installation(timeline, modules, comfyui)


def _other_installation(timeline: Timeline, modules: Sequence[str], comfyui: str) -> Installation:
    folder = HOST_FOLDER / f"ComfyUI-{comfyui}" if comfyui in SOURCES else Path(comfyui).expanduser().resolve()
    if comfyui not in SOURCES and not comfyui_source.is_comfyui(folder):
        raise PreparationError(
            f"--comfyui is {comfyui}, which is neither the folder of a ComfyUI (main.py, nodes.py, server.py and "
            f"comfy/ must be in it) nor one of {', '.join(SOURCES)}."
        )
    python = _python_with(modules, folder) if os.environ.get("COMFYUI_PYTHON") else _own_installation(timeline).python
    if not comfyui_source.is_comfyui(folder):
        _fetch_comfyui(python, SOURCES[comfyui], folder, timeline)
    return Installation(folder, python, own_packages(python, folder, HOST_FOLDER, timeline))


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
    return Installation(comfyui, _python_with(modules, comfyui, variables))


def _python_with(modules: Sequence[str], comfyui: Path, variables: Mapping[str, str] = os.environ) -> Path:
    python = _python_of(comfyui, variables.get("COMFYUI_PYTHON"))
    if missing := _missing_modules(python, modules):
        raise PreparationError(
            f"{python}, the Python of COMFYUI_PATH, lacks {', '.join(missing)}. Install the tools with "
            f'"{python}" -m pip install --group "{ROOT / "pyproject.toml"}:test" (pip 25.1 or newer), '
            "or set COMFYUI_PYTHON to the Python that has them."
        )
    return python


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
    comfyui = HOST_FOLDER / f"ComfyUI-{COMFYUI.version}"
    environment = Environment(ROOT / ".venv", ROOT / "pyproject.toml", HOST_FOLDER / "logs")
    if not (comfyui_source.is_comfyui(comfyui) and environment.is_ready()):
        check_python()
        timeline.say("Preparing Python packages and ComfyUI, once; later runs reuse them")
        environment.create(timeline)
        if not comfyui_source.is_comfyui(comfyui):
            _fetch_comfyui(environment.python, COMFYUI, comfyui, timeline)
        environment.install(comfyui / "requirements.txt", timeline)
        timeline.say("Prepared")
    return Installation(comfyui, environment.python)


def _fetch_comfyui(python: Path, source: Source, target: Path, timeline: Timeline) -> None:
    timeline.say(f"Fetching ComfyUI {source.version}")
    downloads = HOST_FOLDER / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    archive = downloads / source.archive_name
    if not archive.exists():
        arguments = comfyui_source.pip_download_arguments(source, downloads / "comfyui.txt", downloads)
        run_pip(python, arguments, HOST_FOLDER / "logs" / "pip-download.log", timeline)
    comfyui_source.verify_hash(archive, source.sha256)
    comfyui_source.unpack(archive, target, source)
    archive.unlink()
