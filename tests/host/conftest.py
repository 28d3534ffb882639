"""ComfyUI itself, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from families.build import FAMILIES
from families.fixtures import *  # noqa: F403
from families.load import load_family

Models = tuple[Any, Any, Any]
"""MODEL, CLIP and VAE."""


@pytest.fixture(autouse=True)
def nothing_is_fetched(no_network: None) -> None:
    """Whatever a node is asked for here, it does without the network."""


@pytest.fixture(scope="session")
def sd1(embeddings: Path) -> Models:
    """Of the family that most tests take. Whatever a node does, it leaves these as they are."""
    return load_family("sd1", embedding_directory=str(embeddings))


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, embeddings: Path) -> Models:
    return load_family(request.param, embedding_directory=str(embeddings))
