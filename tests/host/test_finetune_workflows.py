"""The workflows that finetune the U-Net, as they are offered, over HTTP, with few steps; core reads what they leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from driver import quick_start
from driver.client import Execution, Workflow
from PIL import Image
from safetensors import safe_open

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
FINETUNE, SIDE = "CoReUNetIdentityFinetune", 32
FEW: dict[str, dict[str, int | bool]] = {
    "CoReTrainEmbedding": {"steps": 2, "batch_size": 2, "resolution": SIDE, "preview_every": 0, "overwrite": True},
    FINETUNE: {"steps": 2, "batch_size": 2, "resolution": SIDE, "preview_every": 0, "overwrite": True},
    "CoReSaveConcept": {"overwrite": True},
    "KSampler": {"steps": 3},
    "EmptyLatentImage": {"width": SIDE, "height": SIDE, "batch_size": 2},
}
COMPLAINTS = ("not loaded", "missing", "unexpected", "mismatch")


@dataclass(frozen=True)
class Run:
    """A workflow that has run, and what the server's log said meanwhile."""

    server: object
    workflow: Workflow
    execution: Execution
    log: str

    def inputs(self, title: str) -> dict:
        return self.workflow[self.id(title)]["inputs"]

    def id(self, title: str) -> str:
        (node_id,) = (node_id for node_id, node in self.workflow.items() if node["_meta"]["title"] == title)
        return node_id

    def pictures(self, title: str) -> list[np.ndarray]:
        return saved_pictures(self.server, self.execution, self.id(title))


def saved_pictures(server, execution: Execution, node_id: str) -> list[np.ndarray]:
    shown = execution.outputs[node_id]["images"]
    files = [server.process.output / image["subfolder"] / image["filename"] for image in shown]
    return [np.asarray(Image.open(file).convert("RGB")).astype(int) for file in files]


@pytest.fixture(scope="module")
def run(server) -> Callable[[str], Run]:
    """Runs a workflow of this name once."""
    quick_start.fill_base_folder(server.process.base)
    done: dict[str, Run] = {}

    def by_name(name: str) -> Run:
        if name not in done:
            workflow = server.client.convert(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))
            for node in workflow.values():
                node["inputs"] |= FEW.get(node["class_type"], {})
                if node["inputs"].get("augmentation"):
                    node["inputs"]["augmentation"] = 2
            done[name] = Run(server, workflow, *logged(server, workflow))
        return done[name]

    return by_name


def logged(server, workflow: Workflow) -> tuple[Execution, str]:
    before = server.process.log.stat().st_size
    execution = server.client.submit(workflow)
    return execution, server.process.log.read_bytes()[before:].decode(errors="replace")


def drawn_with(run: Run, sampler: str, loader: dict) -> tuple[list[np.ndarray], str]:
    """The pictures of a sampler of the workflow when core's `loader` gives it the model, and the log meanwhile."""
    wanted = ("KSampler", "VAEDecode", "SaveImage")
    kept = {
        node_id: json.loads(json.dumps(node))
        for node_id, node in run.workflow.items()
        if node["class_type"] not in (*wanted, "CoReSaveConcept", "PreviewAny", "PreviewImage", "LossGraphNode")
        or node["_meta"]["title"] == "Class images"
    }
    for node_id, node in run.workflow.items():
        if node["class_type"] in wanted:
            kept[node_id] = json.loads(json.dumps(node))
    saving = run.id(f"{sampler} (pictures)")
    kept[run.id(sampler)]["inputs"]["model"] = ["loader", 0]
    kept["loader"] = loader
    others = [i for i, node in kept.items() if node["class_type"] == "SaveImage" and i != saving]
    execution, log = logged(run.server, {i: node for i, node in kept.items() if i not in others})
    return saved_pictures(run.server, execution, saving), log


def unet_loader(name: str) -> dict:
    values = {"unet_name": f"{name}.safetensors", "weight_dtype": "default"}
    return {"class_type": "UNETLoader", "inputs": values, "_meta": {"title": "core"}}


def listed(server, loader: str, parameter: str) -> list[str]:
    """What core's loader offers, refreshed as the editor does."""
    return server.client.get(f"/object_info/{loader}")[loader]["input"]["required"][parameter][0]


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if any(word in line.lower() for word in COMPLAINTS)]


def assert_equal_pictures(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    assert len(ours) == len(theirs) == 2
    assert max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) <= 2, "beyond rounding"


def differ(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return any((a != b).any() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["core_full", "attndreambooth", "dreambooth_lora", "custom_diffusion"])
def test_it_runs_and_draws_pictures_of_the_asked_size(run, name):
    result = run(name)
    assert complaints(result.log) == []
    saving = [node["_meta"]["title"] for node in result.workflow.values() if node["class_type"] == "SaveImage"]
    assert saving
    for title in saving:
        assert [picture.shape for picture in result.pictures(title)] == [(SIDE, SIDE, 3)] * 2
    plots = [i for i, node in result.workflow.items() if node["class_type"] == "LossGraphNode"]
    assert plots and all(result.execution.outputs[i]["images"] for i in plots)


def test_core_full_leaves_unet_lora_and_one_file_to_share(run, server):
    result = run("core_full")
    name = result.inputs("Stage 2 · U-Net Identity Finetune")["name"]
    shared = result.inputs("Save Concept")["name"]
    assert f"{name}.safetensors" in listed(server, "UNETLoader", "unet_name")
    assert {f"{name}.safetensors", f"{shared}.safetensors"} <= set(listed(server, "LoraLoader", "lora_name"))
    assert differ(result.pictures("After stage 1 alone (pictures)"), result.pictures("After stage 2 (pictures)"))
    with safe_open(server.process.output / "loras" / f"{shared}.safetensors", "pt") as file:
        keys, card = list(file.keys()), file.metadata()
    assert any(key.startswith("lora_unet_") for key in keys) and any(key.startswith("bundle_emb.") for key in keys)
    assert json.loads(card["core_personalization.lora"])["settings"]["scope"] == "whole U-Net"


def test_core_loads_the_whole_unet_as_it_was_returned(run):
    result = run("core_full")
    name = result.inputs("Stage 2 · U-Net Identity Finetune")["name"]
    pictures, log = drawn_with(result, "After stage 2", unet_loader(name))
    assert complaints(log) == []
    assert_equal_pictures(result.pictures("After stage 2 (pictures)"), pictures)


def test_attndreambooth_keeps_every_stage_in_the_last_ones_unet(run, server):
    result = run("attndreambooth")
    second, third = (result.inputs(title)["name"] for title in ("Stage 2 · its attention", "Stage 3 · its looks"))
    assert f"{second}.safetensors" in listed(server, "LoraLoader", "lora_name")
    assert f"{second}.safetensors" not in listed(server, "UNETLoader", "unet_name")
    pictures, log = drawn_with(result, "After stage 3", unet_loader(third))
    assert complaints(log) == []
    assert_equal_pictures(result.pictures("After stage 3 (pictures)"), pictures)
    assert differ(result.pictures("After stage 2 (pictures)"), pictures)


def test_dreambooths_lora_works_in_core_with_the_rare_word_alone(run, server):
    """Without this pack: core's Load LoRA, and 'sks dog' in the prompt."""
    result = run("dreambooth_lora")
    name = result.inputs("U-Net Identity Finetune")["name"]
    assert f"{name}.safetensors" in listed(server, "LoraLoader", "lora_name")
    checkpoint = result.id("Load Checkpoint")
    values = {"model": [checkpoint, 0], "lora_name": f"{name}.safetensors", "strength_model": 1.0}
    loader = {"class_type": "LoraLoaderModelOnly", "inputs": values, "_meta": {"title": "core"}}
    prompt = result.workflow[result.inputs("With the LoRA")["positive"][0]]["inputs"]
    linked = prompt["text"]
    prompt["text"] = result.inputs("Concept Prompt")["template"].replace("{}", "sks dog")
    try:
        pictures, log = drawn_with(result, "With the LoRA", loader)
    finally:
        prompt["text"] = linked
    assert complaints(log) == []
    assert_equal_pictures(result.pictures("With the LoRA (pictures)"), pictures)


def test_custom_diffusion_shares_its_word_with_a_lora(run, server):
    result = run("custom_diffusion")
    base = server.process.base
    name, start = (result.inputs("U-Net Identity Finetune")["name"], result.inputs("The starting word")["concept_name"])
    vectors = []
    for embedding in (start, name):
        with safe_open(base.embeddings / f"{embedding}.safetensors", "pt") as file:
            vectors.append(file.get_tensor("emb_params"))
    assert not vectors[0].equal(vectors[1])
    with safe_open(server.process.output / "loras" / f"{name}.safetensors", "pt") as file:
        modules = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
    assert modules and all(module.endswith(("_attn2_to_k", "_attn2_to_v")) for module in modules)
    shared = result.inputs("Save Concept")["name"]
    checkpoint = result.id("Load Checkpoint")
    values = {"model": [checkpoint, 0], "clip": [checkpoint, 1], "file": f"loras/{shared}.safetensors"}
    values |= {"strength": 1.0, "embedding_name": "", "any_base_of_same_family": False}
    load = {"class_type": "CoReLoadConcept", "inputs": values}
    show = {"class_type": "PreviewAny", "inputs": {"source": ["load", 3]}}
    graph = {checkpoint: result.workflow[checkpoint], "load": load, "show": show}
    execution, log = logged(server, graph)
    assert complaints(log) == []
    assert execution.outputs["show"]["text"] == [f"embedding:{name} dog"]
