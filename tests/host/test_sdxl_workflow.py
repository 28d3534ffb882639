"""The SDXL workflow, with few steps, through ComfyUI's executor; its loader gives a small SDXL."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
from driver.client import Workflow
from driver.mini_world import CONCEPT, SIDE
from driver.quick_start import CONCEPT_IMAGES, TEMPLATES, template
from families.load import load_family
from PIL import Image
from safetensors import safe_open

NAME = "Train SDXL - word and LoRA"
SHORT = {"steps": 2, "preview_steps": 1, "overwrite": True}
FEW = {
    "CoReTrainEmbedding": {**SHORT, "batch_size": 1, "gradient_accumulation": 1},
    "CoReUNetIdentityFinetune": SHORT,
    "CoReSaveConcept": {"overwrite": True},
    "KSampler": {"steps": 2},
}
pytestmark = pytest.mark.long  # A minute or two for two trainings of SDXL's smallest.
EXTRAS = {"LoadImageDataSetFromFolder": ("comfy_extras.nodes_dataset", "LoadImageDataSetFromFolderNode")}


@dataclass
class Screen:
    """Takes what the executor tells the editor."""

    client_id: str | None = None
    last_node_id: str | None = None

    def __post_init__(self) -> None:
        self.shown: dict[str, Any] = {}

    def send_sync(self, event: Any, data: Any, client_id: str | None = None) -> None:
        if event == "executed":
            self.shown[data["node"]] = data["output"]

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        pass


@pytest.fixture(scope="module")
def workflow(server) -> Workflow:
    workflow = template(server.client, NAME)
    for node in workflow.values():
        node["inputs"] |= FEW.get(node["class_type"], {})
    return workflow


@pytest.fixture(scope="module")
def screen(comfyui, workflow, embeddings) -> Screen:
    """What the nodes showed when the workflow had run."""
    import execution

    shutil.copytree(CONCEPT_IMAGES / CONCEPT, comfyui / "input" / CONCEPT, dirs_exist_ok=True)
    screen = Screen()
    with pytest.MonkeyPatch.context() as patch:
        for name, node in node_classes(load_family("sdxl", embedding_directory=str(embeddings))).items():
            patch.setitem(import_module("nodes").NODE_CLASS_MAPPINGS, name, node)
        patch.setattr(import_module("server").PromptServer, "instance", screen, raising=False)
        nothing_kept = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
        executor = execution.PromptExecutor(screen, execution.CacheType.CLASSIC, nothing_kept)
        results = [key for key, node in workflow.items() if is_output(node["class_type"])]
        executor.execute(workflow, "sdxl", {"client_id": "test"}, results)
    assert executor.success, executor.status_messages[-1]
    return screen


def node_classes(models: tuple[Any, Any, Any]) -> dict[str, type]:
    """Of core's extras and ours, by id; and a loader of these models."""
    import core_personalization

    class Loader:
        RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL", "CLIP", "VAE"), "load", "test"
        INPUT_TYPES = classmethod(lambda cls: {"required": {"ckpt_name": ("STRING",)}})

        def load(self, ckpt_name):
            return models

    async def ours():
        return await (await core_personalization.comfy_entrypoint()).get_node_list()

    extras = {name: getattr(import_module(module), node) for name, (module, node) in EXTRAS.items()}
    return {**extras, **{node.GET_SCHEMA().node_id: node for node in asyncio.run(ours())}, LOADER: Loader}


LOADER = "CheckpointLoaderSimple"


def is_output(class_type: str) -> bool:
    node = import_module("nodes").NODE_CLASS_MAPPINGS[class_type]
    return bool(getattr(node, "OUTPUT_NODE", False))


def of_type(workflow: Workflow, class_type: str) -> list[str]:
    return [node_id for node_id, node in workflow.items() if node["class_type"] == class_type]


def test_the_sdxl_workflow_shares_a_word_in_both_encoders(workflow, screen, embeddings, output_folder):
    (training,) = of_type(workflow, "CoReTrainEmbedding")
    name = workflow[training]["inputs"]["concept_name"]
    with safe_open(embeddings / f"{name}.safetensors", "pt") as file:
        assert {key: file.get_tensor(key).shape[1] for key in file.keys()} == {"clip_l": 768, "clip_g": 1280}  # noqa: SIM118
    (sharing,) = of_type(workflow, "CoReSaveConcept")
    with safe_open(output_folder / "loras" / f"{workflow[sharing]['inputs']['name']}.safetensors", "pt") as file:
        keys, card = list(file.keys()), file.metadata()
    assert {key.rpartition(".")[2] for key in keys if key.startswith("bundle_emb.")} == {"clip_l", "clip_g"}
    assert any("attn1" in key for key in keys) and any("attn2" in key for key in keys)
    assert card["modelspec.architecture"].startswith("stable-diffusion-xl-v1-base")


def test_it_draws_the_word_alone_and_with_the_lora(workflow, screen, output_folder):
    pictures = []
    for node_id in of_type(workflow, "SaveImage"):
        image = screen.shown[node_id]["images"][0]
        pictures.append(Image.open(output_folder / image["subfolder"] / image["filename"]))
    assert [picture.size for picture in pictures] == [(SIDE, SIDE)] * 2
    assert pictures[0].tobytes() != pictures[1].tobytes()
    trainings = [*of_type(workflow, "CoReTrainEmbedding"), *of_type(workflow, "CoReUNetIdentityFinetune")]
    assert all(screen.shown[node_id]["images"] for node_id in trainings), "each shows its chart"


def test_the_sdxl_workflow_opens_with_sdxls_size_and_batch(server):
    """The size is the model's own, 1024, and the pictures follow it."""
    opened = server.client.convert(json.loads((TEMPLATES / f"{NAME}.json").read_text(encoding="utf-8")))
    inputs = {node["class_type"]: node["inputs"] for node in opened.values()}
    training, finetune = inputs["CoReTrainEmbedding"], inputs["CoReUNetIdentityFinetune"]
    (stage,) = of_type(opened, "CoReUNetIdentityFinetune")
    assert training["resolution"] == finetune["resolution"] == 0
    outputs = server.client.get("/object_info/CoReUNetIdentityFinetune")["CoReUNetIdentityFinetune"]["output_name"]
    assert inputs["EmptyLatentImage"]["width"] == [stage, outputs.index("resolution")]
    assert training["batch_size"] * training["gradient_accumulation"] == 6
    assert training["gradient_checkpointing"] and finetune["gradient_checkpointing"]
