"""The SDXL workflow over HTTP, with few steps, on a small checkpoint that core's loader takes for SDXL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driver import quick_start
from driver.client import Execution, Workflow
from families.build import state_dict
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

WORKFLOW = Path(__file__).resolve().parents[2] / "example_workflows" / "sdxl.json"
SIDE = 64
FEW = {
    "CoReTrainEmbedding": {"steps": 2, "resolution": SIDE, "overwrite": True},
    "CoReUNetIdentityFinetune": {"steps": 2, "resolution": SIDE, "overwrite": True},
    "CoReSaveConcept": {"overwrite": True},
    "KSampler": {"steps": 2},
    "EmptyLatentImage": {"width": SIDE, "height": SIDE},
}
pytestmark = pytest.mark.long  # Core's loader insists on the real text encoders' depth: 1.6 GB.


@pytest.fixture(scope="module")
def workflow(server) -> Workflow:
    quick_start.fill_base_folder(server.process.base)
    workflow = server.client.convert(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    for node in workflow.values():
        node["inputs"] |= FEW.get(node["class_type"], {})
    return workflow


@pytest.fixture(scope="module")
def execution(server, workflow) -> Execution:
    (loader,) = of_type(workflow, "CheckpointLoaderSimple")
    checkpoint = server.process.base.checkpoints / workflow[loader]["inputs"]["ckpt_name"]
    save_file(state_dict("sdxl", full_text_encoders=True), checkpoint)
    try:
        return server.client.submit(workflow)
    finally:
        checkpoint.unlink()


def of_type(workflow: Workflow, class_type: str) -> list[str]:
    return [node_id for node_id, node in workflow.items() if node["class_type"] == class_type]


def test_it_trains_both_text_encoders_words_and_a_lora_and_shares_them(server, workflow, execution):
    (training,) = of_type(workflow, "CoReTrainEmbedding")
    name = workflow[training]["inputs"]["concept_name"]
    with safe_open(server.process.base.embeddings / f"{name}.safetensors", "pt") as file:
        assert {key: file.get_tensor(key).shape[1] for key in file.keys()} == {"clip_l": 768, "clip_g": 1280}  # noqa: SIM118
    (sharing,) = of_type(workflow, "CoReSaveConcept")
    shared = workflow[sharing]["inputs"]["name"]
    with safe_open(server.process.output / "loras" / f"{shared}.safetensors", "pt") as file:
        keys, card = list(file.keys()), file.metadata()
    assert {key.rpartition(".")[2] for key in keys if key.startswith("bundle_emb.")} == {"clip_l", "clip_g"}
    assert any("attn1" in key for key in keys) and any("attn2" in key for key in keys)
    assert card["modelspec.architecture"].startswith("stable-diffusion-xl-v1-base")


def test_it_draws_the_word_alone_and_with_the_lora(server, execution, workflow):
    drawn = []
    for node_id in of_type(workflow, "SaveImage"):
        (image,) = execution.outputs[node_id]["images"]
        drawn.append(Image.open(server.process.output / image["subfolder"] / image["filename"]))
    assert [picture.size for picture in drawn] == [(SIDE, SIDE)] * 2
    assert drawn[0].tobytes() != drawn[1].tobytes()
    assert all(execution.outputs[node_id]["images"] for node_id in of_type(workflow, "LossGraphNode"))


def test_as_it_opens_it_has_sdxls_size_and_the_papers_noised_pictures_per_step():
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    values = {node["type"]: node["widgets_values"] for node in workflow["nodes"]}
    assert values["EmptyLatentImage"][:2] == [1024, 1024]
    assert values["CoReTrainEmbedding"].count(1024) == values["CoReUNetIdentityFinetune"].count(1024) == 1
