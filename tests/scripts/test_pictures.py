"""What is drawn from which run; nothing runs here."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures.help_pages import HELP_PICTURES
from pictures.runs import drop_with_users
from pictures.sheet import MARGIN, Sheet
from pictures.thumbnails import THUMBNAILS
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 80_000


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def training(name: str, steps: int) -> dict:
    return node("CoReTrainEmbedding", model=["1", 0], clip=["1", 1], concept_name=name, steps=steps)


def graph(steps: int) -> dict:
    return {
        "2": training("mine", steps),
        "3": node("CoReConceptPrompt", concept=["2", 0], template="a {}"),
        "4": node("LossGraphNode", loss=["2", 2]),
        "5": node("CLIPTextEncode", text=["3", 0]),
    }


def test_every_template_and_help_picture_is_scripted_and_small():
    templates = {file.stem for file in (ROOT / "example_workflows").glob("*.json")}
    assert templates == set(THUMBNAILS) == {file.stem for file in (ROOT / "example_workflows").glob("*.jpg")}
    help_pictures = list((ROOT / "web" / "docs" / "images").iterdir())
    assert {file.stem for file in help_pictures} == set(HELP_PICTURES)
    for file in [*help_pictures, *(ROOT / "example_workflows").glob("*.jpg")]:
        assert file.stat().st_size < MOST_BYTES, file.name
        assert Image.open(file).format == "JPEG"


def test_what_a_dropped_node_feeds_is_dropped_too():
    workflow = graph(steps=100)
    drop_with_users(workflow, "3")
    assert set(workflow) == {"2", "4"}


def test_a_sheet_is_as_high_as_asked_or_says_that_it_cannot():
    picture = Image.new("RGB", (64, 64), "red")
    sheet = Sheet(200).row([picture, picture], ["a red square", "another red square, of which more is said"])
    assert sheet.image(300).size == (200, 300)
    assert sheet.image().getpixel((MARGIN + 40, MARGIN + 40)) == (255, 0, 0)
    with pytest.raises(ValueError, match="pixels high"):
        sheet.image(50)
