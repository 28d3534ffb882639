"""The template "scorecard" through the real server, with the embedded checkpoint and small random CLIP and DINO."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from driver import quick_start
from driver.client import Execution, Workflow
from families import vision

WORKFLOW = quick_start.WORKFLOW.with_name("scorecard.json")
PROMPTS = ("a photo of a {} in the snow", "a painting of a {}")
SEEDS = 2


def of_type(workflow: Workflow, class_type: str) -> dict[str, Any]:
    (found,) = (node for node in workflow.values() if node["class_type"] == class_type)
    return found


@pytest.fixture(scope="module")
def workflow(server, comfyui_path) -> Workflow:
    """As in the file, but for two prompts, few steps and the small models."""
    base = server.process.base
    quick_start.fill_base_folder(base)
    vision.save_clip(base.path / "models" / "small-clip", comfyui_path / "comfy" / "sd1_tokenizer")
    vision.save_dino(base.path / "models" / "small-dino")
    workflow = server.client.convert(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    of_type(workflow, "CoReTrainEmbedding")["inputs"].update(steps=2, overwrite=True)
    prompts = {"prompt_set": "own", "own_prompts": "\n".join(PROMPTS), "seeds_per_prompt": SEEDS}
    of_type(workflow, "CoReEvaluationPrompts")["inputs"].update(prompts)
    of_type(workflow, "KSampler")["inputs"].update(steps=2)
    of_type(workflow, "CoReScorecard")["inputs"].update(clip_model="small-clip", dino_model="small-dino")
    return workflow


@pytest.fixture(scope="module")
def execution(server, workflow) -> Execution:
    return server.client.submit(workflow)


@pytest.fixture(scope="module")
def card(server, execution) -> dict[str, Any]:
    file = server.process.output / "scorecards" / "scored-dog.json"
    (card,) = json.loads(file.read_text(encoding="utf-8"))["scorecards"]
    return card


def test_comfyui_offers_it_as_a_template(server):
    assert WORKFLOW.stem in server.client.get("/workflow_templates")["core-personalization"]


def test_every_prompt_is_drawn_with_every_seed(execution, workflow, card):
    drawn = [template.replace("{}", "embedding:scored-dog") for template in PROMPTS for _ in range(SEEDS)]
    assert card["prompts"] == drawn
    node_id = next(node_id for node_id, node in workflow.items() if node["class_type"] == "SaveImage")
    assert len(execution.outputs[node_id]["images"]) == len(drawn)


def test_pictures_of_other_seeds_and_prompts_score_otherwise(card):
    values = card["pictures"]["clip_t"]
    assert len(set(values)) == len(values) == len(PROMPTS) * SEEDS


def test_it_scores_what_can_be_scored_without_masks(card):
    assert {name: summary["overall"]["n"] for name, summary in card["scores"].items()} == {
        "clip_t": 4,
        "text_alignment": 4,
        "clip_i": 2,
        "dino": 2,
    }
    assert card["facts"]["references"] == 4


def test_table_charts_and_csv_are_there(server, workflow, execution, card):
    types = {workflow[node_id]["class_type"]: shown for node_id, shown in execution.outputs.items()}
    assert "| CLIP-T |" in types["PreviewAny"]["text"][0]
    assert len(types["CoReScorecard"]["images"]) == 2
    for image in types["CoReScorecard"]["images"]:
        assert (server.process.base.temporary / image["subfolder"] / image["filename"]).is_file()
    with Path(server.process.output / "scorecards" / "scored-dog.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["score"] for row in rows} == set(card["scores"])


def test_the_same_graph_is_served_from_the_cache(server, workflow, execution):
    again = server.client.submit(workflow)
    cached = next(message["data"]["nodes"] for message in again.messages if message["type"] == "execution_cached")
    assert next(node_id for node_id, node in workflow.items() if node["class_type"] == "CoReScorecard") in cached
    assert not (server.process.output / "scorecards" / "scored-dog-2.csv").exists()
