"""The workflow that trains with captions, as it is offered, over HTTP, with few steps."""

from __future__ import annotations

import json

import pytest
from driver import quick_start
from driver.client import Execution, Workflow, WorkflowError
from safetensors.torch import load_file

TEMPLATE = "Train with captions - say everything but the dog"
AFTER_TRAINING = ("CoReConceptPrompt", "CLIPTextEncode", "KSampler", "VAEDecode", "SaveImage")


def of_type(workflow: Workflow, class_type: str) -> tuple[str, dict]:
    ((node_id, node),) = ((node_id, node) for node_id, node in workflow.items() if node["class_type"] == class_type)
    return node_id, node["inputs"]


@pytest.fixture(scope="module")
def workflow(server) -> Workflow:
    """As in the file, but for the amount of training and sampling."""
    quick_start.fill_base_folder(server.process.base)
    workflow = quick_start.template(server.client, TEMPLATE)
    quick_start.allow_overwrite(workflow)
    of_type(workflow, quick_start.TRAINING_NODE)[1].update(steps=2, batch_size=2)
    of_type(workflow, "KSampler")[1]["steps"] = 2
    report = [of_type(workflow, "CoReSelectiveCaption")[0], 1]
    workflow["report"] = {"class_type": "PreviewAny", "inputs": {"source": report}, "_meta": {"title": "Report"}}
    return workflow


@pytest.fixture(scope="module")
def execution(server, workflow) -> Execution:
    return server.client.submit(workflow)


def test_it_shows_the_captions_learns_with_them_and_draws(server, workflow, execution):
    node_id, inputs = of_type(workflow, "CoReSelectiveCaption")
    shown = execution.outputs[node_id]
    assert shown["text"] == [inputs["own_captions"]], "a caption of the example had to be repaired"
    assert len(shown["images"]) == 4
    name = of_type(workflow, quick_start.TRAINING_NODE)[1]["concept_name"]
    assert (server.process.base.embeddings / f"{name}.safetensors").is_file()
    (picture,) = {image["filename"] for image in execution.outputs[of_type(workflow, "SaveImage")[0]]["images"][:1]}
    assert (server.process.output / picture).is_file()
    (report,) = execution.outputs["report"]["text"]
    assert report.count("(typed): as it was") == 4 and "Length bound" not in report


def test_the_captions_count_in_training(server, workflow, execution):
    """Training with class-only captions, everything else equal, learns something else."""
    name = of_type(workflow, quick_start.TRAINING_NODE)[1]["concept_name"]
    learned = load_file(server.process.base.embeddings / f"{name}.safetensors")["emb_params"]
    other = {
        node_id: json.loads(json.dumps(node))
        for node_id, node in workflow.items()
        if node["class_type"] not in AFTER_TRAINING
    }
    of_type(other, "CoReSelectiveCaption")[1]["case"] = "Case 1: class only"
    of_type(other, quick_start.TRAINING_NODE)[1]["concept_name"] = "class-only"
    server.client.submit(other)
    assert not load_file(server.process.base.embeddings / "class-only.safetensors")["emb_params"].equal(learned)


def test_a_missing_line_is_refused_with_its_name(server, workflow):
    other = json.loads(json.dumps(workflow))
    inputs = of_type(other, "CoReSelectiveCaption")[1]
    inputs["own_captions"] = inputs["own_captions"].rsplit("\n", 1)[0]
    with pytest.raises(WorkflowError, match="own_captions: 3 lines for 4 pictures"):
        server.client.submit(other)
