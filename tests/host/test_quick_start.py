"""The quick-start workflow as the demo runs it, over HTTP, with few steps."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from driver import quick_start
from driver.client import Execution, Workflow, WorkflowError, WorkflowInterrupted
from preparation.errors import PreparationError
from safetensors.torch import load_file

STEPS = 3


@pytest.fixture(scope="module")
def workflow(server) -> Workflow:
    """As the demo runs it, but for the number of training and sampling steps."""
    quick_start.fill_base_folder(server.process.base)
    workflow = quick_start.template(server.client)
    for node in workflow.values():
        if node["class_type"] in (quick_start.TRAINING_NODE, "KSampler"):
            node["inputs"]["steps"] = STEPS
    return workflow


@pytest.fixture(scope="module")
def execution(server, workflow) -> Execution:
    quick_start.allow_overwrite(workflow)
    return server.client.submit(workflow)


def of_type(workflow: Workflow, class_type: str) -> str:
    (node_id,) = (node_id for node_id, node in workflow.items() if node["class_type"] == class_type)
    return node_id


def test_comfyui_offers_it_as_a_template(server):
    offered = server.client.get("/workflow_templates")["core-personalization"]
    assert quick_start.WORKFLOW.stem in offered


def test_it_makes_the_embedding_the_pictures_and_the_chart(server, workflow, execution):
    process = server.process
    files = quick_start.collect_files(workflow, execution, process.base, process.output)
    assert all(str(file) in files.report() for file in (*files.embeddings, *files.pictures, *files.charts))
    (embedding,) = files.embeddings
    assert {key: vectors.shape for key, vectors in load_file(embedding).items()} == {"emb_params": (1, 768)}


def test_every_training_step_reports_progress(workflow, execution):
    training = of_type(workflow, quick_start.TRAINING_NODE)
    progress = [m["data"] for m in execution.messages if m["type"] == "progress" and m["data"]["node"] == training]
    assert {(data["value"], data["max"]) for data in progress} >= {(step, STEPS) for step in range(1, STEPS + 1)}


def test_the_node_says_what_it_made_and_how_to_call_it(workflow, execution):
    training = of_type(workflow, quick_start.TRAINING_NODE)
    name = workflow[training]["inputs"]["concept_name"]
    (text,) = execution.outputs[training]["text"]
    call, made, steady, terms, *_, memory = text.splitlines()
    assert call == f"Done. Write embedding:{name} in any prompt."
    assert re.fullmatch(rf"{name}\.safetensors: {STEPS} steps, (\d+ min )?\d+ s", made)
    assert re.fullmatch(r"Steady loss: \S+, now \S+", steady)
    assert re.match(r"Last step: .*\bloss \S+, L_diffusion \S+, L_emb \S+", terms)
    assert re.match(r"The training needs about \S+ GiB \(models and trained weights .* took \S+ GiB", memory)


def test_a_missing_file_is_not_passed_over(server, workflow, execution):
    process = server.process
    files = quick_start.collect_files(workflow, execution, process.base, process.output)
    for chart in files.charts:
        chart.unlink()
    with pytest.raises(PreparationError, match="Chart"):
        files.report()


def refused(server, workflow: Workflow, change: Callable[[dict], object]) -> str:
    node_id = of_type(workflow, quick_start.TRAINING_NODE)
    changed = {**workflow, node_id: {**workflow[node_id], "inputs": dict(workflow[node_id]["inputs"])}}
    change(changed[node_id]["inputs"])
    with pytest.raises(WorkflowError) as error:
        server.client.submit(changed)
    return str(error.value)


def test_without_permission_nothing_is_overwritten(server, workflow, execution):
    embeddings = server.process.base.embeddings
    before = {file: file.read_bytes() for file in embeddings.rglob("*") if file.is_file()}
    message = refused(server, workflow, lambda inputs: inputs.update(overwrite=False, seed=1))
    assert "concept_name" in message and "overwrite" in message
    assert {file: file.read_bytes() for file in embeddings.rglob("*") if file.is_file()} == before


def test_bad_input_is_refused_with_its_name(server, workflow):
    assert "concept_name" in refused(server, workflow, lambda inputs: inputs.update(concept_name="../elsewhere"))
    assert "super_category" in refused(server, workflow, lambda inputs: inputs.update(super_category=" "))


def changed_training(workflow: Workflow, **inputs) -> tuple[str, Workflow]:
    node_id = of_type(workflow, quick_start.TRAINING_NODE)
    node = workflow[node_id]
    return node_id, {**workflow, node_id: {**node, "inputs": {**node["inputs"], **inputs}}}


def cached_nodes(execution: Execution) -> list[str]:
    return next(m["data"]["nodes"] for m in execution.messages if m["type"] == "execution_cached")


def test_the_cache_serves_the_same_graph_and_no_edited_one(server, workflow, execution):
    node_id, edited = changed_training(workflow, seed=2)
    assert node_id in cached_nodes(server.client.submit(workflow))
    assert node_id not in cached_nodes(server.client.submit(edited))


def test_cancel_keeps_what_was_learned_and_the_run_can_go_on(server, workflow):
    base = server.process.base
    node_id, longer = changed_training(workflow, steps=500, concept_name="cancelled", preview_every=0)

    def cancel_after_two_steps(message):
        data = message["data"]
        if message["type"] == "progress" and data["node"] == node_id and data["max"] == 500 and data["value"] >= 2:
            server.client.interrupt()

    with pytest.raises(WorkflowInterrupted):
        server.client.submit(longer, cancel_after_two_steps)
    (kept,) = (base.embeddings / "cancelled-steps").glob("cancelled-step*.safetensors")
    assert not (base.embeddings / "cancelled.safetensors").exists()
    done = int(kept.stem.removeprefix("cancelled-step"))
    assert 2 <= done < 100

    _, rest = changed_training(longer, steps=done + 2)
    execution = server.client.submit(rest)
    assert f"{done + 2} steps, {done} of them before it stopped" in execution.outputs[node_id]["text"][0]
    assert (base.embeddings / "cancelled.safetensors").is_file()
