"""Concept Images in the editor: seen as soon as a folder is chosen; photos uploaded; captions edited in their table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from photo_files import jpeg, photo, photo_folder

NODE, CAPTIONS = 1, 2
LOOK = "(id) => app.graph.getNodeById(id).widgets[0].callback()"
WIDTHS = """[...document.querySelectorAll("[data-node-id='1'] img")].map((image) => image.naturalWidth)"""


@pytest.fixture
def node(editor, server):
    """One that stands alone, in a ComfyUI that has a folder of photos; other tests find none."""
    photo_folder(server.process.base.input / "our-cats")
    editor.load({"nodes": [], "links": [], "version": 0.4})
    editor.page.evaluate("() => app.refreshComboInNodes()")
    placed = {"id": NODE, "type": "CoReConceptImages", "pos": [150, 40], "size": [420, 700]}
    editor.load({"nodes": [placed], "links": [], "version": 0.4})
    yield NODE
    for folder in ("our-cats", "uploaded"):
        shutil.rmtree(server.process.base.input / folder, ignore_errors=True)
    editor.page.evaluate("() => app.refreshComboInNodes()")


def test_what_is_in_a_folder_is_seen_as_soon_as_it_is_chosen(editor, node):
    editor.choose(node, "folder", "our-cats")
    text = editor.wait_for_text(node, "^3 pictures, 1 skipped: notes.pdf")
    assert "1 caption, 1 mask" in text
    (picture,) = editor.wait_for_pictures(node, 1)
    assert picture.startswith("data:image/jpeg")
    editor.set_value(node, "folder", "gone")
    editor.page.evaluate("(id) => app.graph.getNodeById(id).widgets[0].callback()", node)
    assert editor.wait_for_text(node, "there is no 'gone'")
    assert editor.errors == []


def test_the_picture_goes_with_the_folder_that_it_was_of(editor, node):
    editor.set_value(node, "folder", "our-cats")
    editor.page.evaluate(LOOK, node)
    editor.wait_for_pictures(node, 1)
    editor.set_value(node, "folder", "gone")
    editor.page.evaluate(LOOK, node)
    editor.wait_for_text(node, "there is no 'gone'")
    editor.wait_for_pictures(node, 0)
    editor.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    try:
        editor.page.locator("[data-node-id='1']").wait_for()
        editor.set_value(node, "folder", "our-cats")
        editor.page.evaluate(LOOK, node)
        editor.page.wait_for_function(f"() => {WIDTHS}.some((width) => width > 50)")
        editor.set_value(node, "folder", "gone")
        editor.page.evaluate(LOOK, node)
        editor.wait_for_text(node, "there is no 'gone'")
        editor.page.wait_for_function(f"() => {WIDTHS}.every((width) => width <= 1)", timeout=5000)
    finally:
        editor.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    assert editor.errors == []


@contextmanager
def another_workflow_meanwhile(editor, address: str) -> Iterator[None]:
    """Around what asks the server for an address: the answer comes when another workflow is open, whose node has the
    same id."""
    asked = []
    editor.page.route(address, lambda route: asked.append(route))
    try:
        yield
        while not asked:
            editor.page.wait_for_timeout(50)
        other = {"id": NODE, "type": "KSampler", "pos": [150, 40]}
        editor.load({"nodes": [other], "links": [], "version": 0.4}, "other")
        for route in asked:
            route.continue_()
    finally:
        editor.page.unroute(address)


def test_a_late_answer_is_not_shown_on_a_node_of_another_workflow(editor, node):
    with another_workflow_meanwhile(editor, "**/core_personalization/photos*"):
        editor.choose(node, "folder", "our-cats")
    editor.page.wait_for_timeout(1000)
    assert editor.text(NODE) == ""
    assert editor.pictures(NODE) == []
    assert editor.errors == []


def test_photos_are_uploaded_while_another_workflow_is_looked_at(editor, node, server, tmp_path):
    with another_workflow_meanwhile(editor, "**/upload/image"):
        upload_two(editor, node, tmp_path)
    editor.page.get_by_text("Photos are in the folder").wait_for()
    assert len(list((server.process.base.input / "uploaded").iterdir())) == 3
    assert editor.text(NODE) == ""
    assert editor.errors == []


def test_a_folder_that_is_dropped_is_refused_and_a_lost_connection_told(editor, node):
    drop = """([id, directory]) => app.graph.getNodeById(id).onDragDrop({dataTransfer: {
        files: [new File(['x'], '1.jpg')], items: [{webkitGetAsEntry: () => ({isDirectory: directory})}]}})"""
    editor.evaluate(drop, [node, True])
    assert editor.wait_for_text(node, "not their folder", patience=5000).startswith("✖")
    assert editor.page.get_by_role("dialog").count() == 0
    editor.page.route("**/upload/image", lambda route: route.abort())
    try:
        editor.evaluate(drop, [node, False])
        dialog = editor.page.get_by_role("dialog")
        dialog.get_by_role("textbox").fill("uploaded")
        dialog.get_by_role("button").last.click()
        editor.wait_for_text(node, "^✖ 1.jpg: .*fetch", patience=5000)
    finally:
        editor.page.unroute("**/upload/image")
    assert editor.errors == []


def test_nodes_drawn_as_html_show_it_too(editor, node):
    editor.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    try:
        editor.page.locator("[data-node-id='1']").wait_for()
        editor.set_value(node, "folder", "our-cats")
        editor.page.evaluate("(id) => app.graph.getNodeById(id).widgets[0].callback()", node)
        editor.wait_for_text(node, "^3 pictures")
        editor.page.locator("[data-node-id='1'] img[src^='blob:']").first.wait_for()
        editor.page.locator("[data-node-id='1'] br").first.wait_for(state="attached")  # its lines stay lines
    finally:
        editor.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    assert editor.errors == []


def upload_two(editor, node: int, folder: Path) -> None:
    """Photos, one of them with a caption, by the node's button."""
    files = [folder / name for name in ("1.jpg", "2.jpg", "2.txt")]
    for file in files[:2]:
        file.write_bytes(jpeg(photo(300, 400, seed=int(file.stem))))
    files[2].write_text("sks in the snow")
    with editor.page.expect_file_chooser() as chosen:
        editor.evaluate("(id) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'upload').callback()", node)
    chosen.value.set_files(files)
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("uploaded")
    dialog.get_by_role("button").last.click()


def test_several_photos_are_uploaded_and_chosen(editor, node, server, tmp_path):
    upload_two(editor, node, tmp_path)
    text = editor.wait_for_text(node, "^2 pictures")
    assert "1 caption, no masks" in text
    assert editor.values(node)["folder"] == "uploaded"
    assert len(list((server.process.base.input / "uploaded").iterdir())) == 3
    graph = json.loads(editor.evaluate("() => JSON.stringify(app.graph.serialize())"))
    assert graph["nodes"][0]["widgets_values"][:5] == list(editor.values(node).values())[:5]
    assert editor.errors == []


def test_captions_that_were_made_are_edited_in_their_table(editor, node):
    captions = {"id": CAPTIONS, "type": "CoReSelectiveCaption", "pos": [700, 40], "size": [420, 700]}
    images = {"id": NODE, "type": "CoReConceptImages", "pos": [150, 40], "size": [420, 700]}
    editor.load({"nodes": [images, captions], "links": [], "version": 0.4})
    editor.set_value(NODE, "folder", "our-cats")
    editor.set_value(CAPTIONS, "super_category", "cat")
    editor.set_value(CAPTIONS, "own_captions", "sks cat on a sofa\n{} by a lake\na photo of a cat in the snow")
    connect = "([from, to]) => app.graph.getNodeById(from).connect(0, app.graph.getNodeById(to), 0)"
    editor.evaluate(connect, [NODE, CAPTIONS])
    assert editor.run()["node_errors"] == {}
    made = editor.wait_for_text(CAPTIONS, r"^\{\} on a sofa[^:]*$")
    button = "app.graph.getNodeById(id).widgets.find((w) => w.name === 'edit_captions')"
    editor.page.wait_for_function(f"(id) => !{button}.disabled", arg=CAPTIONS)
    editor.evaluate(f"(id) => {button}.callback()", CAPTIONS)
    assert editor.values(CAPTIONS)["own_captions"] == made
    assert len(made.splitlines()) == 3
    assert editor.errors == []


def test_what_it_says_does_not_lie_over_the_node_below(editor, node):
    below = {"id": 2, "type": "CoReConceptPrompt", "pos": [150, 620], "size": [270, 110]}
    images = {"id": NODE, "type": "CoReConceptImages", "pos": [150, 40], "size": [270, 490]}
    editor.load({"nodes": [images, below], "links": [], "version": 0.4})
    editor.set_value(NODE, "folder", "our-cats")
    say = "([id, text]) => app.api.dispatchCustomEvent('progress_text', {nodeId: String(id), text})"
    editor.evaluate(say, [NODE, "Note: a folder of which there is much to say.\n" * 14])
    editor.page.wait_for_timeout(300)
    bottom = editor.evaluate("(id) => { const n = app.graph.getNodeById(id); return n.pos[1] + n.size[1]; }", NODE)
    assert 40 + 490 <= bottom < 620 - 30
