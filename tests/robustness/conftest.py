"""ComfyUI in this process, with the smallest model that it takes for Stable Diffusion 1.x."""

from __future__ import annotations

from pathlib import Path

import pytest
from families.fixtures import *  # noqa: F403

from robustness.smallest import Models, load_smallest


@pytest.fixture(scope="session")
def models(embeddings: Path) -> Models:
    return load_smallest(embeddings)
