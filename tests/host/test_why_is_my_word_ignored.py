"""The template why_is_my_word_ignored through a real server, with the embedded checkpoint and few steps."""

from __future__ import annotations

import json

import pytest
import torch
from core_personalization.nodes.files import safe_files
from driver import quick_start
from driver.client import Execution, Workflow
from PIL import Image

TEMPLATE = quick_start.WORKFLOW.with_name("why_is_my_word_ignored.json")
MENDING, SAMPLER = "CoReTestTimeOptimize", "KSampler"
STEPS = 2


@pytest.fixture(scope="module")
def workflow(server) -> Workflow:
    """As in the file, but for the number of steps, and a concept that was learned on no model in particular."""
    base = server.process.base
    quick_start.provide_checkpoint(base.checkpoints / quick_start.CHECKPOINT)
    ui_workflow = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    workflow = server.client.convert(ui_workflow)
    (loader,) = of_type(workflow, "CoReLoadConcept").values()
    _, _, file = loader["inputs"]["file"].partition("/")
    card = {"architecture": "stable-diffusion-v1", "base_model": "any", "base_model_fingerprint": "any"}
    metadata = {
        f"core_personalization.{key}": json.dumps(value) for key, value in {**card, "super_category": "dog"}.items()
    }
    vectors = torch.randn(1, 768, generator=torch.Generator().manual_seed(0)) * 0.03
    safe_files.write(base.embeddings / file, {"emb_params": vectors}, metadata, overwrite=True)
    loader["inputs"]["any_base_of_same_family"] = True
    for node in (*of_type(workflow, SAMPLER).values(), *of_type(workflow, MENDING).values()):
        node["inputs"]["steps"] = STEPS
    return workflow


@pytest.fixture(scope="module")
def execution(server, workflow) -> Execution:
    return server.client.submit(workflow)


def of_type(workflow: Workflow, class_type: str) -> dict[str, dict]:
    return {node_id: node for node_id, node in workflow.items() if node["class_type"] == class_type}


def shown(workflow: Workflow, execution: Execution, title: str) -> dict:
    (found,) = (
        ui for node_id, ui in execution.outputs.items() if workflow[node_id].get("_meta", {}).get("title") == title
    )
    return found


def test_the_template_names_what_quick_start_makes():
    nodes = {node["type"]: node for node in json.loads(TEMPLATE.read_text(encoding="utf-8"))["nodes"]}
    training = next(n for n in quick_start.load_ui_workflow()["nodes"] if n["type"] == quick_start.TRAINING_NODE)
    assert nodes["CoReLoadConcept"]["widgets_values"][0] == f"embeddings/{training['widgets_values'][0]}.safetensors"


def test_the_two_pictures_differ_by_the_mending_alone(server, workflow, execution):
    samplers = of_type(workflow, SAMPLER).values()
    settings = [{k: v for k, v in node["inputs"].items() if k not in ("model", "positive")} for node in samplers]
    assert settings[0] == settings[1]
    pictures = []
    for title in ("As it is (pictures)", "Mended (pictures)"):
        (first, _) = shown(workflow, execution, title)["images"]
        pictures.append(Image.open(server.process.output / first["filename"]).tobytes())
    assert pictures[0] != pictures[1]


def test_report_similarity_and_shares_are_shown(workflow, execution):
    (report,) = shown(workflow, execution, "What was mended")["text"]
    assert "| L_emb |" in report and "| sunglasses |" in report
    (shares,) = shown(workflow, execution, "Share of each token")["text"]
    assert shares.count("embedding:patchwork-dog") >= 2
    assert len(shown(workflow, execution, "Similarity of the words around")["images"]) == 1
    assert len(shown(workflow, execution, "As it is above, mended below")["images"]) == 2


def test_mending_reports_steps_and_runs_once_for_two_samplers(server, workflow, execution):
    (mending,) = of_type(workflow, MENDING)
    progress = [m["data"] for m in execution.messages if m["type"] == "progress" and m["data"]["node"] == mending]
    assert {(data["value"], data["max"]) for data in progress} >= {(step, STEPS) for step in range(1, STEPS + 1)}
    resampled = {
        node_id: {**node, "inputs": {**node["inputs"], "seed": 8}} if node["class_type"] == SAMPLER else node
        for node_id, node in workflow.items()
    }
    again = server.client.submit(resampled)
    cached = next(m["data"]["nodes"] for m in again.messages if m["type"] == "execution_cached")
    assert mending in cached
    assert not set(of_type(workflow, SAMPLER)) & set(cached)
