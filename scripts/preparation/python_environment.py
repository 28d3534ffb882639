"""The .venv: made once, completed after an interruption, ready only when its stamp says so."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import comfyui_source, torch_stack
from .errors import PreparationError
from .pip import run_pip
from .timeline import Timeline

NEEDED_BYTES = 9 * 10**9
NEEDED_BYTES_BESIDE_TORCH = 2 * 10**9
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 14)

# Imports nothing: a second run is to take seconds.
_ALIVE = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ('torch', 'aiohttp', 'pytest'))))"


@dataclass(frozen=True)
class Environment:
    """folder: the .venv. project: pyproject.toml, whose dependency group `test` and own requirements are installed."""

    folder: Path
    project: Path
    logs: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamp(self) -> Path:
        return self.folder / "prepared.txt"

    def expected_stamp(self) -> str:
        """Changes with all that is installed, so that a newer checkout completes an older environment."""
        inputs = [comfyui_source.COMFYUI.distribution, *torch_stack.PINNED, self.project.read_text(encoding="utf-8")]
        return hashlib.sha256("\n".join(inputs).encode()).hexdigest()

    def is_ready(self) -> bool:
        stamped = self.stamp.is_file() and self.stamp.read_text(encoding="utf-8") == self.expected_stamp()
        return stamped and self.is_alive()

    def is_alive(self) -> bool:
        """Whether its Python still runs and finds its packages; a removed base Python breaks a venv."""
        return self.runs("-c", _ALIVE)

    def runs(self, *arguments: str) -> bool:
        try:
            return subprocess.run([str(self.python), *arguments], capture_output=True).returncode == 0
        except OSError:
            return False

    def create(self, timeline: Timeline) -> None:
        """Makes the venv, with a pip that reads dependency groups. Keeps what an interrupted run left."""
        self.stamp.unlink(missing_ok=True)
        if not self.runs("-m", "pip", "--version"):
            timeline.say(f"Creating {self.folder} with Python {'.'.join(map(str, sys.version_info[:3]))}")
            _make_venv(self.folder)
        tools = ("pip>=25.1", "setuptools>=69,<82", "wheel")  # torch 2.11 refuses a newer setuptools.
        run_pip(self.python, ["install", *tools], self.logs / "pip-tools.log", timeline)

    def install(self, host_requirements: Path, timeline: Timeline) -> None:
        """Installs torch, what ComfyUI asks for and the test group; then, and only then, writes the stamp."""
        stack = torch_stack.installed_stack()
        check_disk_space(self.folder.parent, NEEDED_BYTES_BESIDE_TORCH if stack else NEEDED_BYTES, self.folder)
        if stack:
            timeline.say(f"Using the installed torch {stack.torch} from {', '.join(stack.folders)}")
            self._see_packages_of(stack)
            torch_packages = ()
        else:
            torch_packages = torch_stack.PINNED
        timeline.say(f"Installing {' '.join((*torch_packages, 'ComfyUI requirements, test tools'))}")
        arguments = [
            "install",
            "--no-compile",  # A minute for 19,000 files, of which few are ever imported.
            *torch_packages,
            "-r",
            str(host_requirements),
            "-r",
            str(self.project.with_name("requirements.txt")),
            "--group",
            f"{self.project}:test",
        ]
        run_pip(self.python, arguments, self.logs / "pip-install.log", timeline)
        partial = self.stamp.with_suffix(".partial")
        partial.write_text(self.expected_stamp(), encoding="utf-8")
        partial.replace(self.stamp)

    def _see_packages_of(self, stack: torch_stack.TorchStack) -> None:
        """A .pth file, because --system-site-packages would not show what another venv holds."""
        query = [str(self.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        site_packages = Path(subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip())
        (site_packages / "installed_torch.pth").write_text("\n".join(stack.folders) + "\n", encoding="utf-8")


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> None:
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        raise PreparationError(
            f"This is Python {_dotted(version)}, but ComfyUI {comfyui_source.COMFYUI.version} and its torch "
            f"need Python {_dotted(OLDEST_PYTHON)} to {_dotted(NEWEST_PYTHON)}. Run the command with one of "
            "these, for example: python3.12 scripts/demo.py. Or set COMFYUI_PATH and COMFYUI_PYTHON to an "
            "installation of yours."
        )


def check_disk_space(folder: Path, needed: int, partly_filled: Path) -> None:
    """needed: bytes in all; what `partly_filled` holds already is taken off."""
    present = sum(file.lstat().st_size for file in partly_filled.rglob("*") if file.is_file())
    free, missing = shutil.disk_usage(folder).free, max(needed - present, 0)
    if free < missing:
        raise PreparationError(
            f"Not enough disk space: {folder} has {free / 1e9:.1f} GB free, and preparing ComfyUI with torch "
            f"needs about {missing / 1e9:.1f} GB. Make room, clone onto another disk, or set COMFYUI_PATH to "
            "a ComfyUI of yours."
        )


def _make_venv(folder: Path) -> None:
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True)
    if made.returncode:
        raise PreparationError(
            f"Python could not make a virtual environment in {folder}: {(made.stdout + made.stderr).strip()} "
            "On Debian and Ubuntu install the package python3-venv; elsewhere use a complete Python."
        )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
