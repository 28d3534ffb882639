"""ComfyUI itself, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from core_personalization.core_ops.training.training_loop import TrainingLoop
from families.build import FAMILIES
from families.fixtures import *  # noqa: F403
from families.hashing import weights_hash
from families.load import load_family
from families.scoring import without_drawing

if TYPE_CHECKING:
    from conftest import RunningServer

Models = tuple[Any, Any, Any]
"""MODEL, CLIP and VAE."""


@pytest.fixture(autouse=True)
def nothing_is_fetched(no_network: None) -> None:
    """Whatever a node is asked for here, it does without the network."""


@pytest.fixture(scope="session")
def sd1(embeddings: Path) -> Iterator[Models]:
    """Of the family that most tests take. Whatever a node does, it leaves these as they are; so must tests."""
    models = load_family("sd1", embedding_directory=str(embeddings))
    before = weights_hash(models)
    yield models
    from comfy.model_management import unload_all_models

    unload_all_models()  # a clone's patches may still be in place
    assert weights_hash(models) == before, "a test has changed the models that all share"


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, embeddings: Path) -> Models:
    return load_family(request.param, embedding_directory=str(embeddings))


@pytest.fixture(scope="module")
def undrawn(comfyui: Path) -> Iterator[None]:
    """Scorecards without their charts."""
    with without_drawing():
        yield


@pytest.fixture
def scorecards(comfyui: Path) -> Path:
    """The folder that the node writes to, emptied."""
    import folder_paths

    folder = Path(folder_paths.get_output_directory()) / "scorecards"
    for file in folder.glob("*"):
        file.unlink()
    return folder


@pytest.fixture(scope="session")
def my_dog(server: RunningServer) -> str:
    """The name of the quick start's concept, learned in three steps that are all saved."""
    from driver import quick_start

    quick_start.fill_base_folder(server.process.base)
    workflow = quick_start.template(server.client)
    ((node_id, training),) = ((i, node) for i, node in workflow.items() if node["class_type"] == "CoReTrainEmbedding")
    training["inputs"] |= {"steps": 3, "batch_size": 1, "save_every": 1, "preview_every": 0, "overwrite": True}
    training["inputs"]["clear_steps"] = False
    needed = {node_id, *(value[0] for value in training["inputs"].values() if isinstance(value, list))}
    server.client.submit({each: workflow[each] for each in needed})
    return training["inputs"]["concept_name"]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are really made."""
    made: list[int] = []
    step = TrainingLoop._train_one_step

    def counted(loop: TrainingLoop) -> Any:
        if not loop.recipe.parameters[0].is_meta:
            made.append(loop.step + 1)
        return step(loop)

    monkeypatch.setattr(TrainingLoop, "_train_one_step", counted)
    return made
