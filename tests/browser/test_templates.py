"""Every example workflow, from the template browser to the queue; and its picture in the gallery, which is kept."""

from __future__ import annotations

import re

import pytest
from browser.graph_picture import expect_kept, picture_of_graph
from driver.quick_start import TEMPLATES, WORKFLOW
from preparation.by_place import ROOT

NAMES = sorted(file.stem for file in TEMPLATES.glob("*.json"))
CATEGORY = "Train your own concept (CoRe)"
GRAPHS, MOST_BYTES = ROOT / "docs" / "images" / "graphs", 60_000
SMALLEST_LETTERS, LEAST_HEIGHT = 12, 9
"""Pixels: of a field's letters as the editor draws them at full size, and as they must be when a template opens."""
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
# Nodes that begin in a group and end beside it, with the widths that the editor gives them.
_STICKING_OUT = """() => app.graph.nodes.filter(({boundingRect: [x, y, width]}) => app.graph.groups.some(
    ({pos, size}) => pos[0] <= x && x < pos[0] + size[0] && pos[1] <= y && y < pos[1] + size[1]
        && x + width > pos[0] + size[0])).map((node) => node.title)"""
# Of nodes drawn as HTML, as large as the browser makes them: those that lie over each other, or go out of their group.
_UNTIDY_AS_HTML = """() => {
    const {scale, offset: [left, top]} = app.canvas.ds, canvas = app.canvas.canvas.getBoundingClientRect();
    const boxes = app.graph.nodes.map((node) => {
        const box = document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect();
        const x = (box.left - canvas.left) / scale - left, y = (box.top - canvas.top) / scale - top;
        return {title: node.title, x, y, right: x + box.width / scale - 1, bottom: y + box.height / scale - 1};
    });
    const over = boxes.flatMap((a, i) => boxes.slice(i + 1)
        .filter((b) => a.x < b.right && b.x < a.right && a.y < b.bottom && b.y < a.bottom)
        .map((b) => `${a.title} over ${b.title}`));
    const out = app.graph.groups.flatMap(({title, pos: [x, y], size: [width, height]}) => boxes
        .filter((a) => a.title !== 'What to do' && x <= a.x && a.x < x + width && y <= a.y && a.y < y + height)
        .filter((a) => a.right > x + width || a.bottom > y + height)
        .map((a) => `${a.title} out of ${title}, to ${Math.round(a.right)}, ${Math.round(a.bottom)}`));
    return [...over, ...out];
}"""
# What Evaluation Prompts say after a run, and as soon as a workflow is opened again.
_SAY_HOW_MANY = """() => {
    const text = '20 pictures: 20 prompts, 1 of each, 25 steps, guidance 7.';
    for (const {id} of app.graph.nodes.filter((node) => node.type === 'CoReEvaluationPrompts')) {
        app.api.dispatchCustomEvent('progress_text', {nodeId: String(id), text, ofOpenWorkflow: true});
    }
}"""
_ALL_AS_HTML = "() => app.graph.nodes.every((node) => document.querySelector(`[data-node-id='${node.id}']`))"
# As the notes of the workflows that score say it; nothing runs for long here.
_ALLOW_DOWNLOADS = """() => app.graph.nodes.filter((node) => node.subgraph).flatMap((node) => node.widgets)
    .filter((widget) => widget.name === 'allow_downloads').forEach((widget) => { widget.value = true; })"""
# Names that nothing was trained under.
_CALL_IT = """(name) => app.graph.nodes.filter((node) => node.type === 'CoReTrainEmbedding' || node.subgraph)
    .flatMap((node) => node.widgets).filter((widget) => widget.name === 'concept_name')
    .forEach((widget, number) => { widget.value = number ? `${name}-${number}` : name; })"""
# Cables as the editor has drawn them, tried on points inside of each node; at a cable's ends not near the edge.
_CROSSINGS = """() => {
    const context = document.createElement('canvas').getContext('2d'), graph = app.canvas.graph, found = [];
    context.lineWidth = 3;
    const cables = [...graph.links.values()].map((link) => [link.path, link]);
    for (const reroute of graph.reroutes.values())
        cables.push([reroute.path, graph.links.get([...reroute.linkIds][0])]);
    for (const [path, link] of cables) for (const node of path ? graph.nodes : []) {
        const [x, y, width, height] = node.boundingRect;
        const edge = [link.origin_id, link.target_id].includes(node.id) ? 14 : 2;
        const crosses = () => {
            for (let left = x + edge; left < x + width - edge; left += 5)
                for (let top = y + edge; top < y + height - edge; top += 5)
                    if (context.isPointInStroke(path, left, top)) return true;
            return false;
        };
        if (crosses()) found.push(`${link.type} from ${link.origin_id} to ${link.target_id} over ${node.title}`);
    }
    return found;
}"""


def test_the_template_browser_shows_them_all_with_their_pictures(editor):
    editor.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text(CATEGORY).first.click()
    for name in NAMES:
        dialog.get_by_placeholder("Search").fill(name)
        picture = dialog.get_by_role("img", name=name, exact=True)
        editor.page.wait_for_function("(picture) => picture.naturalWidth >= 400", arg=picture.element_handle())
        assert picture.evaluate("(picture) => picture.naturalWidth === picture.naturalHeight")
    dialog.get_by_placeholder("Search").fill("train my dog")
    dialog.get_by_text(WORKFLOW.stem, exact=True).first.click()
    editor.page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'CoReTrainEmbedding')")


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_whole_tidy_and_legible_and_can_be_queued(editor, name):
    editor.load_template(name)
    states = editor.evaluate(_STATES)
    assert [state for state in states if state["red"] or not (state["known"] or "-" in state["type"])] == []
    assert editor.evaluate(_OVERLAPS) == []
    assert editor.evaluate(_STICKING_OUT) == []
    assert editor.evaluate(_CROSSINGS) == []
    assert SMALLEST_LETTERS * editor.evaluate("() => app.canvas.ds.scale") >= LEAST_HEIGHT
    assert editor.complaints() == []
    if name.endswith(".app"):
        for field in ("Checkpoint", "Folder of photos", "Name", "What it is (dog, teapot …)", "Prompt"):
            assert editor.page.get_by_text(field, exact=True).last.is_visible(), field
    else:
        expect_kept(picture_of_graph(editor), GRAPHS / f"{name}.webp", MOST_BYTES)
    editor.evaluate(_ALLOW_DOWNLOADS)
    editor.evaluate(_CALL_IT, re.sub(r"[^\w.-]+", "-", name))
    answer = editor.run()
    editor.stop_all()
    assert answer["node_errors"] == {} and answer["prompt_id"]
    assert editor.errors == []


def test_nodes_drawn_as_html_lie_apart_and_in_their_groups(editor):
    editor.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    try:
        untidy = {}
        for name in (name for name in NAMES if not name.endswith(".app")):
            editor.load_template(name)
            editor.page.wait_for_function(_ALL_AS_HTML)
            editor.evaluate(_SAY_HOW_MANY)
            editor.page.wait_for_timeout(300)
            untidy[name] = editor.evaluate(_UNTIDY_AS_HTML)
    finally:
        editor.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    assert {name: found for name, found in untidy.items() if found} == {}
    assert editor.errors == []


def test_tables_are_shown_as_markdown(editor):
    editor.load_template("Score my concept - 20 prompts")
    modes = """() => app.graph.nodes.filter((node) => node.type === 'PreviewAny')
        .map((node) => node.widgets.find((widget) => widget.name === 'preview_mode').value)"""
    assert editor.evaluate(modes) == [True]
