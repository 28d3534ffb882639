"""Every example workflow, from the template browser to the queue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / "example_workflows").glob("*.json"))
PACK = "core-personalization"
# Of every node: whether its type is registered, and whether the editor draws it red.
_STATES = """() => app.graph.nodes.map((node) => ({
    type: node.type, known: node.type in LiteGraph.registered_node_types, red: Boolean(node.has_errors)}))"""
# With the sizes that the editor gives them.
_OVERLAPS = """() => {
    const boxes = app.graph.nodes.map((node) => {
        node.updateArea?.();
        const [x, y, width, height] = node.boundingRect;
        return {name: `${node.id} ${node.title}`, x, y, right: x + width, bottom: y + height};
    });
    return boxes.flatMap((a, i) => boxes.slice(i + 1)
        .filter((b) => a.x < b.right && b.x < a.right && a.y < b.bottom && b.y < a.bottom)
        .map((b) => `${a.name} and ${b.name}`));
}"""


def test_the_template_browser_shows_them_all_with_their_pictures(editor):
    editor.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text(PACK).first.click()
    for workflow in WORKFLOWS:
        dialog.get_by_placeholder("Search").fill(workflow.stem)
        picture = dialog.get_by_role("img", name=workflow.stem, exact=True)
        editor.page.wait_for_function("(picture) => picture.naturalWidth >= 400", arg=picture.element_handle())
        assert picture.evaluate("(picture) => picture.naturalWidth === picture.naturalHeight")
    dialog.get_by_placeholder("Search").fill("quick_start")
    dialog.get_by_text("quick_start", exact=True).first.click()
    editor.page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'CoReTrainEmbedding')")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_it_opens_whole_and_tidy_and_can_be_queued(editor, workflow):
    graph = json.loads(workflow.read_text(encoding="utf-8"))
    editor.load(graph, workflow.stem)
    states = editor.evaluate(_STATES)
    assert len(states) == len(graph["nodes"])
    assert [state for state in states if state["red"] or not state["known"]] == []
    assert editor.evaluate(_OVERLAPS) == []
    assert editor.complaints() == []
    answer = editor.run()
    editor.stop_all()
    assert answer["node_errors"] == {} and answer["prompt_id"]
    assert editor.errors == []
