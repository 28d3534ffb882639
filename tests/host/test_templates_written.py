"""Templates and subgraphs are what scripts/write_templates.py makes of the nodes as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from templates.__main__ import FOLDERS, content

ROOT = Path(__file__).resolve().parents[2]
MAKERS = [(folder, make) for folder, makers in FOLDERS.items() for make in makers]


@pytest.mark.parametrize(("folder", "make"), MAKERS, ids=lambda value: getattr(value, "__name__", value))
def test_a_file_has_the_inputs_of_today(server, folder, make):
    graph = make(server.client.get("/object_info"))
    written = json.loads((ROOT / folder / f"{graph.name}.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(content(folder, graph))), "run python scripts/write_templates.py"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_left_over(server, folder):
    known = server.client.get("/object_info")
    assert {file.stem for file in (ROOT / folder).glob("*.json")} == {make(known).name for make in FOLDERS[folder]}
