"""The template "Why is my word ignored" through a real server, with the embedded checkpoint and few steps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from driver import quick_start
from driver.client import Execution, Workflow
from PIL import Image

TEMPLATE = "Why is my word ignored"
MENDING, SAMPLER = "CoReTestTimeOptimize", "KSampler"
STEPS = 2


@pytest.fixture(scope="module")
def workflow(server, my_dog) -> Workflow:
    """As in the file, but for the number of steps, and with the maps' table shown."""
    workflow = quick_start.template(server.client, TEMPLATE)
    for node in (*of_type(workflow, SAMPLER).values(), *of_type(workflow, MENDING).values()):
        node["inputs"]["steps"] = STEPS
    (maps,) = of_type(workflow, "CoReAttentionMaps")
    title = {"title": "Share of each token"}
    workflow["shares"] = {"class_type": "PreviewAny", "inputs": {"source": [maps, 2]}, "_meta": title}
    return workflow


@pytest.fixture(scope="module")
def execution(server, workflow) -> Execution:
    return server.client.submit(workflow)


def of_type(workflow: Workflow, class_type: str) -> dict[str, dict]:
    return {node_id: node for node_id, node in workflow.items() if node["class_type"] == class_type}


def of_link(workflow: Workflow, value: Any) -> Any:
    """A value, or what a link leads to, with all that is before it: a subgraph's nodes are there twice."""
    if not isinstance(value, list):
        return value
    node = workflow[value[0]]
    if node["class_type"] == "CoReContextAttentionProbe":  # it looks on
        return of_link(workflow, node["inputs"]["model"])
    return node["class_type"], value[1], {name: of_link(workflow, each) for name, each in node["inputs"].items()}


def shown(workflow: Workflow, execution: Execution, title: str) -> dict:
    (found,) = (
        ui for node_id, ui in execution.outputs.items() if workflow[node_id].get("_meta", {}).get("title") == title
    )
    return found


@pytest.mark.parametrize("name", [TEMPLATE, "Use a shared concept", "See where a word acts - attention maps"])
def test_the_template_names_what_quick_start_makes(name):
    def values(name: str, node_type: str) -> list:
        graph = json.loads((quick_start.TEMPLATES / f"{name}.json").read_text(encoding="utf-8"))
        return next(node["widgets_values"] for node in graph["nodes"] if node["type"] == node_type)

    concept = values(quick_start.WORKFLOW.stem, quick_start.TRAINING_NODE)[0]
    assert values(name, "CoReLoadConcept")[0] == f"embeddings/{concept}.safetensors"


def test_the_two_pictures_differ_by_the_mending_alone(server, workflow, execution):
    samplers = of_type(workflow, SAMPLER).values()
    settings = [{k: of_link(workflow, v) for k, v in node["inputs"].items()} for node in samplers]
    differing = {name for name in settings[0] if settings[0][name] != settings[1][name]}
    assert differing == {"positive"}
    pictures = []
    for title in ("As it is (pictures)", "Refined (pictures)"):
        (first, _) = shown(workflow, execution, title)["images"]
        pictures.append(Image.open(server.process.output / first["subfolder"] / first["filename"]).tobytes())
    assert pictures[0] != pictures[1]


def test_report_similarity_and_shares_are_shown(workflow, execution, my_dog):
    (report,) = shown(workflow, execution, "What was refined")["text"]
    assert "| L_emb |" in report and "| sunglasses |" in report
    (shares,) = shown(workflow, execution, "Share of each token")["text"]
    assert shares.count(f"embedding:{my_dog}") >= 2
    assert len(shown(workflow, execution, "Context Similarity")["images"]) == 1
    assert len(shown(workflow, execution, "As it is above, refined below")["images"]) == 2


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
