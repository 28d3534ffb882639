"""ComfyUI on the card, in this process, and small models from files, loaded as core's loader does."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from families.build import FAMILIES, checkpoint, state_dict
from families.fixtures import *  # noqa: F403
from families.load import load_file
from robustness.smallest import SMALLEST, Models
from safetensors.torch import save_file

from gpu.card import unload_everything


@pytest.fixture(autouse=True)
def nothing_is_fetched(no_network: None) -> None:
    """Whatever a node is asked for here, it does without the network."""


@pytest.fixture
def no_last_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings end without the picture that their node shows, which takes as long as all the rest of a short one."""
    from core_personalization.nodes.training.concept_preview import ConceptPreview

    monkeypatch.setattr(ConceptPreview, "draw", lambda *_: torch.zeros(1, 8, 8, 3))


@pytest.fixture(scope="session", autouse=True)
def imported_for_good(comfyui: Path) -> None:
    """Each training collects garbage; looking through torch and ComfyUI every time takes longer than its steps."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def smallest_file(comfyui: Path) -> Path:
    path = comfyui / "smallest.safetensors"
    save_file(checkpoint(SMALLEST), path)
    return path


@pytest.fixture(scope="module")
def models(smallest_file: Path, embeddings: Path) -> Iterator[Models]:
    yield load_file(SMALLEST, smallest_file, str(embeddings))
    unload_everything()


@pytest.fixture(scope="module")
def sdxl(comfyui: Path, embeddings: Path) -> Iterator[Models]:
    path = comfyui / "sdxl.safetensors"
    if not path.exists():
        save_file(state_dict("sdxl", 0), path)
    yield load_file(FAMILIES["sdxl"], path, str(embeddings))
    unload_everything()
