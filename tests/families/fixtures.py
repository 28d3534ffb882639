"""ComfyUI itself, in the tests' process; a folder of tests has it by importing these fixtures in its conftest.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from . import dynamic_vram
from .dynamic_vram import DYNAMIC_VRAM

__all__ = ["comfyui", "embeddings", "output_folder", "short_previews", "vision_models"]


@pytest.fixture(scope="session", autouse=True)
def comfyui(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes ComfyUI importable in this process, with folders of its own; on the CPU where TEST_ON_CPU is set.

    Returns the base folder, in which models/, input/ and output/ are.
    """
    return start_comfyui(comfyui_path, tmp_path_factory.mktemp("comfyui"))


def start_comfyui(comfyui_path: Path, base: Path) -> Path:
    """`base` as ComfyUI's base folder, unless this process has one already; returns the one it has.

    COMFYUI_OPTIONS, such as "--novram", are switched on; DYNAMIC_VRAM among them is what ComfyUI does by itself on
    NVIDIA's cards.
    """
    if "folder_paths" in sys.modules:
        return Path(sys.modules["folder_paths"].base_path)
    sys.path.insert(0, str(comfyui_path))
    import torch
    from comfy.cli_args import args

    args.cpu = bool(os.environ.get("TEST_ON_CPU")) or not torch.cuda.is_available()
    args.base_directory = str(base)
    options = os.environ.get("COMFYUI_OPTIONS", "").split()
    for option in options:
        setattr(args, option.removeprefix("--").replace("-", "_"), True)
    if DYNAMIC_VRAM in options:
        dynamic_vram.switch_on()
    import folder_paths

    output = Path(folder_paths.get_output_directory())
    for kind in ("loras", "diffusion_models"):  # ComfyUI's main.py has its loaders look into the output folder, too
        folder_paths.add_model_folder_path(kind, str(output / kind))
    for folder in (*folder_paths.get_folder_paths("embeddings"), output, output / "loras"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    return base


@pytest.fixture(autouse=True)
def short_previews(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps in place of twelve: previews are most of a short training. The server draws whole ones."""
    from core_personalization.core_ops.diffusion_process import DDIMConfig
    from core_personalization.nodes.training import concept_preview as concept_preview

    monkeypatch.setattr(concept_preview, "DDIMConfig", lambda: DDIMConfig(steps=2))


@pytest.fixture(scope="session")
def output_folder(comfyui: Path) -> Path:
    import folder_paths

    return Path(folder_paths.get_output_directory())


@pytest.fixture(scope="session")
def embeddings(comfyui: Path) -> Path:
    """The folder that embeddings are written to."""
    import folder_paths

    return Path(folder_paths.get_folder_paths("embeddings")[0])


@pytest.fixture(scope="session")
def vision_models(comfyui: Path, comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of small random-weight models: clip, dino, dinov2."""
    from families import vision

    folder = tmp_path_factory.mktemp("vision")
    saved = {
        "clip": vision.save_clip(folder / "clip", comfyui_path / "comfy" / "sd1_tokenizer"),
        "dino": vision.save_dino(folder / "dino"),
        "dinov2": vision.save_dinov2(folder / "dinov2"),
    }
    return {name: str(path) for name, path in saved.items()}
