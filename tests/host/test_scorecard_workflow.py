"""The templates that score, through a real server, with the embedded checkpoint and small random CLIP and DINO."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from driver import quick_start
from driver.client import Execution, Workflow
from families import vision

TEMPLATE = "Score my concept - 20 prompts"
SAVED_STEPS = "Score saved steps - which is best"
PROMPTS = ("a photo of a {} in the snow", "a painting of a {}")
SEEDS = 2


def ids(workflow: Workflow, class_type: str) -> list[str]:
    return [node_id for node_id, node in workflow.items() if node["class_type"] == class_type]


@pytest.fixture(scope="module")
def small(server, comfyui_path) -> dict[str, dict[str, Any]]:
    """By node type: two prompts, few steps and the small models."""
    base = server.process.base
    vision.save_clip(base.path / "models" / "small-clip", comfyui_path / "comfy" / "sd1_tokenizer")
    vision.save_dino(base.path / "models" / "small-dino")
    return {
        "CoReEvaluationPrompts": {
            "prompt_set": "own", "own_prompts": "\n".join(PROMPTS), "seeds_per_prompt": SEEDS
        },
        "KSampler": {"steps": 2},
        "CoReScorecard": {"clip_model": "small-clip", "dino_model": "small-dino"},
    }  # fmt: skip


def template(server, name: str, small: dict[str, dict[str, Any]]) -> Workflow:
    workflow = quick_start.template(server.client, name)
    for node in workflow.values():
        node["inputs"] |= small.get(node["class_type"], {})
    return workflow


@pytest.fixture(scope="module")
def workflow(server, small, my_dog) -> Workflow:
    return template(server, TEMPLATE, small)


@pytest.fixture(scope="module")
def execution(server, workflow) -> Execution:
    return server.client.submit(workflow)


@pytest.fixture(scope="module")
def card(server, execution, my_dog) -> dict[str, Any]:
    file = server.process.output / "scorecards" / f"{my_dog}.json"
    (card,) = json.loads(file.read_text(encoding="utf-8"))["scorecards"]
    return card


def test_comfyui_offers_them_as_templates(server):
    assert {TEMPLATE, SAVED_STEPS} <= set(server.client.get("/workflow_templates")["core-personalization"])


def test_every_prompt_is_drawn_with_every_seed(execution, workflow, card, my_dog):
    drawn = [template.replace("{}", f"embedding:{my_dog}") for template in PROMPTS for _ in range(SEEDS)]
    assert card["prompts"] == drawn
    (node_id,) = ids(workflow, "SaveImage")
    assert len(execution.outputs[node_id]["images"]) == len(drawn)


def test_pictures_of_other_seeds_and_prompts_score_otherwise(card):
    values = card["pictures"]["clip_t"]
    assert len(set(values)) == len(values) == len(PROMPTS) * SEEDS


def test_text_alignment_is_of_the_prompts_without_the_concept(card):
    values = [card["pictures"][name] for name in ("clip_t", "text_alignment")]
    assert all(a != b for a, b in zip(*values, strict=True))


def test_it_scores_what_can_be_scored_without_masks(card):
    assert {name: summary["overall"]["n"] for name, summary in card["scores"].items()} == {
        "clip_t": 4,
        "text_alignment": 4,
        "clip_i": 2,
        "dino": 2,
    }
    assert card["facts"]["references"] == 4


def test_table_charts_and_csv_are_there(server, workflow, execution, card, my_dog):
    types = {workflow[node_id]["class_type"]: shown for node_id, shown in execution.outputs.items()}
    assert "| CLIP-T |" in types["PreviewAny"]["text"][0]
    assert len(types["CoReScorecard"]["images"]) == 2
    for image in types["CoReScorecard"]["images"]:
        assert (server.process.base.temporary / image["subfolder"] / image["filename"]).is_file()
    with Path(server.process.output / "scorecards" / f"{my_dog}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["score"] for row in rows} == set(card["scores"])


def test_the_same_graph_is_served_from_the_cache(server, workflow, execution, my_dog):
    again = server.client.submit(workflow)
    cached = next(message["data"]["nodes"] for message in again.messages if message["type"] == "execution_cached")
    assert set(ids(workflow, "CoReScorecard")) <= set(cached)
    assert not (server.process.output / "scorecards" / f"{my_dog}-2.csv").exists()


def test_saved_steps_are_scored_and_compared(server, small, my_dog):
    """The template's files are named as a training names them."""
    workflow = template(server, SAVED_STEPS, small)
    opened = json.loads((quick_start.TEMPLATES / f"{SAVED_STEPS}.json").read_text(encoding="utf-8"))
    for number, loader in enumerate(ids(workflow, "CoReLoadConcept"), start=1):
        named = server.client.convert(opened)[loader]["inputs"]["file"]
        file = re.fullmatch(rf"(embeddings/{my_dog}-steps/{my_dog}-step)\d+(\.safetensors)", named)
        assert file, named
        workflow[loader]["inputs"]["file"] = f"{file[1]}{number}{file[2]}"
    execution = server.client.submit(workflow)
    names = [f"{my_dog}-step{number}" for number in (1, 2, 3)]
    cards = json.loads((server.process.output / "scorecards" / f"{names[-1]}.json").read_text(encoding="utf-8"))
    assert sorted(card["name"] for card in cards["scorecards"]) == names
    shown = {workflow[node_id]["_meta"]["title"]: ui for node_id, ui in execution.outputs.items()}
    assert len(shown["Which is best?"]["images"]) == 1
    assert f"### {names[-1]}" in shown["Scores of the last one"]["text"][0]
