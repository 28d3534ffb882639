"""The pretended card's libraries, built once into a folder, and the environment in which a program finds that card."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from preparation.errors import PreparationError
from preparation.pip import run_pip
from preparation.timeline import Timeline

SOURCES = Path(__file__).parent
CUDA_MAJOR = "13"
"""Of the runtime that runtime.cpp imitates."""

MEMORY_MIB = "4096"
"""Of the card, unless FAKE_GPU_MIB says otherwise: what the small families need, and little enough to fill."""


class CannotPretend(Exception):
    """This machine cannot build the card; the message says why, in one sentence."""


@dataclass(frozen=True)
class Torch:
    """folder: the package's. cuda: the version that it was built for, "13.0"."""

    folder: Path
    version: str
    cuda: str


def build(folder: Path, timeline: Timeline) -> None:
    """Makes the libraries for this Python's torch, unless `folder` has them already. Raises CannotPretend."""
    torch = installed_torch()
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if not compiler:
        raise CannotPretend("there is no C++ compiler (g++, or what CXX names)")
    stamp, expected = folder / "built.txt", _stamp(torch)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == expected:
        return
    timeline.say("Building the pretended CUDA card, once: about half a minute")
    stamp.unlink(missing_ok=True)
    (folder / "driver").mkdir(parents=True, exist_ok=True)
    for name, arguments in _libraries(torch, _headers(torch, folder, timeline)).items():
        _compile([compiler, "-O1", "-std=c++17", "-shared", "-fPIC", "-o", str(folder / name), *arguments])
    stamp.write_text(expected, encoding="utf-8")


def environment(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """`variables` and what a program needs beside them to find the card that was built into `folder`."""
    before = {name: variables[name] for name in ("LD_PRELOAD", "LD_LIBRARY_PATH") if variables.get(name)}
    added = {"LD_PRELOAD": folder / "runtime.so", "LD_LIBRARY_PATH": folder / "driver"}
    joined = {name: ":".join(filter(None, (str(path), before.get(name)))) for name, path in added.items()}
    return {"FAKE_GPU_MIB": MEMORY_MIB, **variables, **joined}


def installed_torch() -> Torch:
    """Of this Python; it is looked at and not imported."""
    if sys.platform != "linux":
        raise CannotPretend("it is made for Linux")
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise CannotPretend(f"{sys.executable} has no torch")
    folder = Path(found.origin).parent
    says = runpy.run_path(str(folder / "version.py"))
    version, cuda = says["__version__"], says["cuda"]
    if not cuda or cuda.split(".")[0] != CUDA_MAJOR:
        built = f"for CUDA {cuda}" if cuda else "without CUDA"
        raise CannotPretend(f"torch {version} is built {built}, and the card imitates CUDA {CUDA_MAJOR}")
    return Torch(folder, version, cuda)


def _stamp(torch: Torch) -> str:
    digest = hashlib.sha256(f"{torch.version} {torch.folder}".encode())
    for source in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h"), Path(__file__)]):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _headers(torch: Torch, folder: Path, timeline: Timeline) -> tuple[Path, Path]:
    """CUDA's, which lie beside torch, and those that they include, from a package of their own."""
    inside = Path("nvidia", f"cu{CUDA_MAJOR}", "include")
    cuda, crt = torch.folder.parent / inside, folder / "crt"
    if not (cuda / "cuda_runtime_api.h").is_file():
        raise CannotPretend(f"CUDA's headers are not at {cuda}")
    package = f"nvidia-cuda-crt=={'.'.join(torch.cuda.split('.')[:2])}.*"
    if not (crt / inside).is_dir():
        words = ["install", "--no-deps", "--target", str(crt), package]
        try:
            run_pip(Path(sys.executable), words, folder / "pip.log", timeline)
        except PreparationError as error:
            raise CannotPretend(f"CUDA's headers are incomplete: {error}") from error
    return cuda, crt / inside


def _libraries(torch: Torch, headers: tuple[Path, Path]) -> dict[str, list[str]]:
    """What the compiler is told for each library."""
    include, lib = torch.folder / "include", torch.folder / "lib"
    torch_headers = [f"-I{include}", f"-I{include / 'torch/csrc/api/include'}"]
    return {
        "runtime.so": [str(SOURCES / "runtime.cpp"), *(f"-I{folder}" for folder in headers), "-ldl"],
        "driver/libcuda.so.1": [str(SOURCES / "driver.cpp"), "-Wl,-soname,libcuda.so.1"],
        "kernels.so": [
            *(str(SOURCES / name) for name in ("kernels.cpp", "attention.cpp")),
            *torch_headers,
            *(f"-L{lib}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{lib}"),
        ],
    }


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise CannotPretend(f"the compiler failed: {' '.join(errors[:2])}")
