"""The pack's subgraphs, placed as a user finds them: by search."""

from __future__ import annotations

from pathlib import Path

import pytest

SUBGRAPHS = sorted((Path(__file__).resolve().parents[2] / "subgraphs").glob("*.json"))
_PLACED = "(title) => app.graph.nodes.find((node) => node.title === title && node.subgraph)"
_API = "async () => Object.values((await app.graphToPrompt()).output)"


@pytest.fixture
def placed(editor, request) -> str:
    """Title of the subgraph's node, alone with a loader."""
    title = request.param.stem
    loader = {"id": 1, "type": "CheckpointLoaderSimple", "pos": [-400, 100]}
    editor.load({"nodes": [loader], "links": [], "version": 0.4})
    editor.page.mouse.dblclick(900, 700)
    editor.page.keyboard.type(title)
    editor.page.get_by_text(title, exact=True).first.wait_for()
    editor.page.wait_for_timeout(500)  # The search waits for the end of typing.
    editor.page.keyboard.press("Enter")
    editor.page.wait_for_timeout(500)
    editor.page.mouse.click(700, 300)
    editor.page.wait_for_function(_PLACED, arg=title)
    return title


@pytest.mark.parametrize("placed", SUBGRAPHS, ids=lambda path: path.stem, indirect=True)
def test_it_is_found_and_its_nodes_are_known(editor, placed):
    inside = editor.evaluate(f"(title) => ({_PLACED})(title).subgraph.nodes.map((node) => node.type)", placed)
    known = editor.evaluate("(types) => types.filter((type) => type in LiteGraph.registered_node_types)", inside)
    assert known == inside and any(type.startswith("CoRe") for type in inside)
    assert editor.complaints() == []
    assert editor.errors == []


@pytest.mark.parametrize("placed", [Path("CoRe in two stages")], indirect=True)
def test_one_name_and_one_size_serve_both_stages(editor, placed):
    set_value = "([title, name, value]) => ({})(title).widgets.find((w) => w.name === name).value = value"
    for name, value in {"concept_name": "teapot", "resolution": 768, "steps": 200, "steps_2": 500}.items():
        editor.evaluate(set_value.replace("({})", f"({_PLACED})"), [placed, name, value])
    nodes = {node["class_type"]: node["inputs"] for node in editor.evaluate(_API)}
    first, second = nodes["CoReTrainEmbedding"], nodes["CoReUNetIdentityFinetune"]
    assert first["concept_name"] == second["name"] == "teapot"
    assert first["resolution"] == second["resolution"] == 768
    assert (first["steps"], second["steps"]) == (200, 500)
    assert second["concept"][1] == 0
