"""ComfyUI itself, in the tests' process; a folder of tests has it by importing these fixtures in its conftest.py."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import pytest

from lab.comfyui import start

__all__ = [
    "comfyui",
    "embeddings",
    "lasting_objects_left_out",
    "nothing_kept",
    "output_folder",
    "short_previews",
    "vision_models",
]


@pytest.fixture(scope="session", autouse=True)
def comfyui(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes ComfyUI importable in this process, with folders of its own; on the CPU where TEST_ON_CPU is set.

    Returns the base folder, in which models/, input/ and output/ are.
    """
    return start(tmp_path_factory.mktemp("comfyui"))


@pytest.fixture(scope="module", autouse=True)
def lasting_objects_left_out(comfyui: Path) -> None:
    """Python's garbage collector passes over what is there before a file's tests: half a million objects of modules
    that were imported. Our nodes call it at the end of every run, which was a quarter of a short training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def short_previews(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps in place of twelve: previews are most of a short training. The server draws whole ones."""
    from core_personalization.core_ops.diffusion_process import DDIMConfig
    from core_personalization.nodes.training import concept_preview as concept_preview

    monkeypatch.setattr(concept_preview, "DDIMConfig", lambda *_: DDIMConfig(steps=2))


@pytest.fixture(scope="module", autouse=True)
def nothing_kept(comfyui: Path) -> None:
    """No test goes on from what another file's tests left under the same name."""
    import folder_paths
    from core_personalization.nodes.files.concept_files import STATE_FOLDER

    shutil.rmtree(Path(folder_paths.get_output_directory()) / STATE_FOLDER, ignore_errors=True)


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
