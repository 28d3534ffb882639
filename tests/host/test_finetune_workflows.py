"""The workflows that finetune the U-Net, as they are offered, over HTTP, with few steps; core reads what they leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from driver import quick_start
from driver.client import Execution, Workflow
from driver.mini_world import CHECKPOINT, SIDE
from PIL import Image
from safetensors import safe_open

WORD_AND_LORA = "Train my dog - word and LoRA"
ATTNDREAMBOOTH = "Train with AttnDreamBooth - three stages"
DREAMBOOTH_LORA = "Train a DreamBooth LoRA"
CUSTOM_DIFFUSION = "Train with Custom Diffusion"
FINETUNE = "CoReUNetIdentityFinetune"
SHORT: dict[str, Any] = {"steps": 2, "batch_size": 2, "preview_every": 0, "overwrite": True}
FEW: dict[str, dict[str, Any]] = {
    "CoReTrainEmbedding": SHORT,
    FINETUNE: SHORT,
    "CoReSaveConcept": {"overwrite": True},
    "KSampler": {"steps": 3},
}
WHOLE_UNET: dict[str, dict[str, Any]] = {
    "Stage 2 · its looks": {
        **{"preset": "CoRe stage 2", "scope": "whole U-Net", "form": "full weights", "learning_rate": 1e-4},
        **{"save": "whole U-Net and LoRA", "name": "my-dog-whole"},
    },
    "One file to share": {"name": "my-dog-whole-shared"},
}
"""By title: the published full weights in place of the LoRA."""
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

    def sampler(self, title: str) -> str:
        """Of the pictures that the node of this title saves."""
        decoder = self.inputs(title)["images"][0]
        return self.workflow[decoder]["inputs"]["samples"][0]


def saved_pictures(server, execution: Execution, node_id: str) -> list[np.ndarray]:
    shown = execution.outputs[node_id]["images"]
    files = [server.process.output / image["subfolder"] / image["filename"] for image in shown]
    return [np.asarray(Image.open(file).convert("RGB")).astype(int) for file in files]


@pytest.fixture(scope="module")
def run(server) -> Callable[..., Run]:
    """Runs a workflow of this name once, with changes by title."""
    quick_start.fill_base_folder(server.process.base)
    done: dict[str, Run] = {}

    def by_name(name: str, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Run:
        key = f"{name} {changes}"
        if key not in done:
            workflow = quick_start.template(server.client, name)
            for node in workflow.values():
                node["inputs"] |= {**FEW.get(node["class_type"], {}), **(changes or {}).get(node["_meta"]["title"], {})}
                if node["inputs"].get("augmentation"):
                    node["inputs"]["augmentation"] = 2
            done[key] = Run(server, workflow, *logged(server, workflow))
        return done[key]

    return by_name


def logged(server, workflow: Workflow) -> tuple[Execution, str]:
    before = server.process.log.stat().st_size
    execution = server.client.submit(workflow)
    return execution, server.process.log.read_bytes()[before:].decode(errors="replace")


def drawn_with(run: Run, title: str, *loaders: dict, **sampling: Any) -> tuple[list[np.ndarray], str]:
    """The pictures that the node of this title saves when core's loaders, one after another, give their model.

    sampling: other inputs of the sampler. Returns the log meanwhile, too.
    """
    graph = json.loads(json.dumps(run.workflow))
    for number, loader in enumerate(loaders):
        before = {"model": [f"loader-{number - 1}", 0]} if number else {}
        graph[f"loader-{number}"] = {**loader, "inputs": {**loader["inputs"], **before}}
    graph[run.sampler(title)]["inputs"] |= {"model": [f"loader-{len(loaders) - 1}", 0], **sampling}
    kept, found = {}, [run.id(title)]
    while found:
        node_id = found.pop()
        kept[node_id] = graph[node_id]
        found += [value[0] for value in graph[node_id]["inputs"].values() if isinstance(value, list)]
    execution, log = logged(run.server, kept)
    return saved_pictures(run.server, execution, run.id(title)), log


def unet_loader(name: str) -> dict:
    values = {"unet_name": f"{name}.safetensors", "weight_dtype": "default"}
    return {"class_type": "UNETLoader", "inputs": values, "_meta": {"title": "core"}}


def lora_loader(run: Run, name: str) -> dict:
    """Onto the checkpoint's model."""
    values = {"model": [run.id("Load Checkpoint"), 0], "lora_name": f"{name}.safetensors", "strength_model": 1.0}
    return {"class_type": "LoraLoaderModelOnly", "inputs": values, "_meta": {"title": "core"}}


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


@pytest.mark.parametrize("name", [WORD_AND_LORA, ATTNDREAMBOOTH, DREAMBOOTH_LORA, CUSTOM_DIFFUSION])
def test_it_runs_and_draws_pictures_of_the_asked_size(run, name):
    result = run(name)
    assert complaints(result.log) == []
    saving = [node["_meta"]["title"] for node in result.workflow.values() if node["class_type"] == "SaveImage"]
    assert saving
    for title in saving:
        assert [picture.shape for picture in result.pictures(title)] == [(SIDE, SIDE, 3)] * 2
    trainings = [i for i, node in result.workflow.items() if node["class_type"] in ("CoReTrainEmbedding", FINETUNE)]
    assert trainings and all(result.execution.outputs[i]["images"] for i in trainings), "each shows its chart"


@pytest.mark.parametrize("changes", [None, WHOLE_UNET], ids=["LoRA", "whole U-Net"])
def test_word_and_looks_are_one_file_to_share(run, server, changes):
    result = run(WORD_AND_LORA, changes)
    stage = result.inputs("Stage 2 · its looks")
    name, shared = stage["name"], result.inputs("One file to share")["name"]
    assert (f"{name}.safetensors" in listed(server, "UNETLoader", "unet_name")) == (changes is WHOLE_UNET)
    assert {f"{name}.safetensors", f"{shared}.safetensors"} <= set(listed(server, "LoraLoader", "lora_name"))
    assert differ(result.pictures("Before (pictures)"), result.pictures("After (pictures)"))
    with safe_open(server.process.output / "loras" / f"{shared}.safetensors", "pt") as file:
        keys, card = list(file.keys()), file.metadata()
    assert any(key.startswith("lora_unet_") for key in keys) and any(key.startswith("bundle_emb.") for key in keys)
    assert json.loads(card["core_personalization.lora"])["settings"]["scope"] == stage["scope"]


def test_core_loads_the_lora_as_it_was_returned(run):
    result = run(WORD_AND_LORA)
    loader = lora_loader(result, result.inputs("Stage 2 · its looks")["name"])
    pictures, log = drawn_with(result, "After (pictures)", loader)
    assert complaints(log) == []
    assert_equal_pictures(result.pictures("After (pictures)"), pictures)


def test_core_loads_the_whole_unet_as_it_was_returned(run):
    result = run(WORD_AND_LORA, WHOLE_UNET)
    pictures, log = drawn_with(result, "After (pictures)", unet_loader(result.inputs("Stage 2 · its looks")["name"]))
    assert complaints(log) == []
    assert_equal_pictures(result.pictures("After (pictures)"), pictures)


def test_attndreambooths_loras_in_core_one_after_another_draw_as_the_last_stage(run, server):
    result = run(ATTNDREAMBOOTH)
    second, third = (result.inputs(title)["name"] for title in ("Stage 2 · where it looks", "Stage 3 · its looks"))
    assert {f"{second}.safetensors", f"{third}.safetensors"} <= set(listed(server, "LoraLoader", "lora_name"))
    assert not {f"{second}.safetensors", f"{third}.safetensors"} & set(listed(server, "UNETLoader", "unet_name"))
    loaders = [lora_loader(result, name) for name in (second, third)]
    pictures, log = drawn_with(result, "Save Image", *loaders)
    assert complaints(log) == []
    assert_equal_pictures(result.pictures("Save Image"), pictures)
    for alone in loaders:
        assert differ(pictures, drawn_with(result, "Save Image", alone)[0])


def test_dreambooths_lora_works_in_core_with_the_rare_word_alone(run, server):
    """Without this pack: core's Load LoRA, and 'sks dog' in the prompt."""
    result = run(DREAMBOOTH_LORA)
    name = result.inputs("Its looks")["name"]
    assert f"{name}.safetensors" in listed(server, "LoraLoader", "lora_name")
    sampler = result.workflow[result.sampler("After (pictures)")]["inputs"]
    words, size = (json.loads(json.dumps(result.workflow[sampler[key][0]])) for key in ("positive", "latent_image"))
    template = result.workflow[words["inputs"]["text"][0]]["inputs"]["template"]
    words["inputs"]["text"] = template.replace("{}", "sks dog")
    size["inputs"] |= {"width": SIDE, "height": SIDE}
    result.workflow.update(words=words, size=size)
    try:
        loader = lora_loader(result, name)
        drawn = {"positive": ["words", 0], "latent_image": ["size", 0]}
        pictures, log = drawn_with(result, "After (pictures)", loader, **drawn)
    finally:
        del result.workflow["words"], result.workflow["size"]
    assert complaints(log) == []
    assert_equal_pictures(result.pictures("After (pictures)"), pictures)


def test_custom_diffusion_shares_its_word_with_a_lora(run, server):
    result = run(CUSTOM_DIFFUSION)
    stage, base = result.id("Its looks"), server.process.base
    name = result.inputs("Its looks")["name"]
    with safe_open(base.embeddings / f"{name}.safetensors", "pt") as file:
        vectors = file.get_tensor("emb_params")
    with safe_open(base.checkpoints / CHECKPOINT, "pt") as file:
        words = file.get_tensor("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight").float()
    moved = torch.cdist(vectors, words, p=torch.inf).amin(dim=1)
    assert (moved > 0).all() and (moved < 0.01).all(), "each began as a word that the model knows"
    with safe_open(server.process.output / "loras" / f"{name}.safetensors", "pt") as file:
        modules = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
    assert modules and all(module.endswith(("_attn2_to_k", "_attn2_to_v")) for module in modules)
    shared = {"concept": [stage, 6], "lora": [stage, 1], "name": f"{name}-shared", "description": "", "overwrite": True}
    result.server.client.submit({**result.workflow, "share": {"class_type": "CoReSaveConcept", "inputs": shared}})
    checkpoint = result.id("Load Checkpoint")
    values = {"model": [checkpoint, 0], "clip": [checkpoint, 1], "file": f"loras/{name}-shared.safetensors"}
    values |= {"strength": 1.0, "super_category": "", "embedding_name": ""}
    load = {"class_type": "CoReLoadConcept", "inputs": values}
    show = {"class_type": "PreviewAny", "inputs": {"source": ["load", 3]}}
    graph = {checkpoint: result.workflow[checkpoint], "load": load, "show": show}
    execution, log = logged(server, graph)
    assert complaints(log) == []
    assert execution.outputs["show"]["text"] == [f"embedding:{name} dog"]
