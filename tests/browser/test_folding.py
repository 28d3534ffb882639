"""Nodes one can look at: what is rarely changed is folded away, what does nothing is hidden, and no value is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

TRAIN, FINETUNE = "CoReTrainEmbedding", "CoReUNetIdentityFinetune"
MOST_WIDGETS = 12
WITHOUT_WIDGETS = {"CoReAlsoTrain"}
NODE = 1
BUTTON = "$$core-advanced"
NODES_AS_HTML = "Comfy.VueNodes.Enabled"

_DRAWN = (
    "(id) => { const n = app.graph.getNodeById(id); return (n.widgets ?? []).filter((w) => n.isWidgetVisible(w)) %s; }"
)
_FITS = """(id) => { app.canvas.draw(true, true);  // What came meanwhile, a text or a picture, gets its place.
    const n = app.graph.getNodeById(id), needed = n.computeSize()[1];
    return needed <= n.size[1] && n.size[1] <= needed + 100; }"""
_AS_HTML = """(id) => [...document.querySelectorAll(`[data-node-id="${id}"] [data-testid=node-widget]`)]
    .filter((row) => row.offsetParent).length"""
_HTML_NAMES = """(id) => [...document.querySelectorAll(`[data-node-id="${id}"] [data-testid=node-widget]`)]
    .filter((row) => row.offsetParent).map((row) => row.innerText.trim().split("\\n")[0])"""


@pytest.fixture(scope="module")
def node_ids(server) -> list[str]:
    return sorted(name for name in server.client.get("/object_info") if name.startswith("CoRe"))


@pytest.fixture
def as_html(editor) -> Iterator[None]:
    editor.evaluate("(name) => app.extensionManager.setting.set(name, true)", NODES_AS_HTML)
    yield
    editor.evaluate("(name) => app.extensionManager.setting.set(name, false)", NODES_AS_HTML)


def new_node(editor, kind: str) -> None:
    """As a user adds it."""
    editor.load({"nodes": [], "links": [], "version": 0.4})
    editor.evaluate(
        "([id, kind]) => { const node = LiteGraph.createNode(kind); node.id = id; node.pos = [100, 40];"
        " app.graph.add(node); }",
        [NODE, kind],
    )
    editor.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 60]; app.canvas.draw(true, true); }")
    editor.page.wait_for_timeout(300)


def drawn(editor, id: int = NODE) -> list[str]:
    """Names of the widgets that the classic canvas shows."""
    return editor.evaluate(_DRAWN % ".map((w) => w.name)", id)


def height(editor) -> float:
    return editor.evaluate("(id) => app.graph.getNodeById(id).size[1]", NODE)


def change(editor, name: str, value) -> None:
    """As a widget does that its user has changed."""
    editor.evaluate(
        "([id, name, value]) => { const node = app.graph.getNodeById(id);"
        " const widget = node.widgets.find((w) => w.name === name); widget.value = value;"
        " widget.callback?.(value, app.canvas, node); app.canvas.draw(true, true); }",
        [NODE, name, value],
    )


def test_no_node_opens_with_more_than_twelve_widgets(editor, node_ids):
    for kind in node_ids:
        new_node(editor, kind)
        assert (kind not in WITHOUT_WIDGETS) <= len(drawn(editor)) <= MOST_WIDGETS, kind
        editor.page.wait_for_function(_FITS, arg=NODE, timeout=5000)
    assert len(node_ids) >= 12


def test_neither_does_one_drawn_as_html(editor, node_ids, as_html):
    for kind in node_ids:
        new_node(editor, kind)
        editor.page.wait_for_timeout(200)
        assert (kind not in WITHOUT_WIDGETS) <= editor.evaluate(_AS_HTML, NODE) <= MOST_WIDGETS, kind


def test_the_button_unfolds_and_folds_again(editor):
    new_node(editor, TRAIN)
    folded, size = drawn(editor), height(editor)
    assert folded[-1] == BUTTON and "precision" not in folded
    click(editor, BUTTON)
    assert {"precision", "caption_template", *folded} <= set(drawn(editor)) and height(editor) > size + 300
    editor.evaluate("() => { app.canvas.ds.scale = 0.5; app.canvas.draw(true, true); }")  # All of it in view.
    click(editor, BUTTON)
    assert drawn(editor) == folded and height(editor) == size


def click(editor, name: str) -> None:
    place = editor.evaluate(
        "([id, name]) => { const n = app.graph.getNodeById(id), w = n.widgets.find((w) => w.name === name);"
        " const {scale, offset} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect();"
        " return [box.left + (n.pos[0] + n.size[0] / 2 + offset[0]) * scale,"
        " box.top + (n.pos[1] + w.y + 10 + offset[1]) * scale]; }",
        [NODE, name],
    )
    editor.page.mouse.click(*place)
    editor.page.wait_for_timeout(300)


METHOD_OF = {
    "prompt_set": ("CoRe", "Textual Inversion"),
    "weighting": ("CoRe", "AttnDreamBooth stage 1"),
    "rescale_from": ("CoRe (reference code)", "Textual Inversion"),
    "alignment_mean": ("AttnDreamBooth stage 1", "CoRe"),
}


@pytest.mark.parametrize("name", METHOD_OF)
def test_what_a_method_does_not_read_is_hidden(editor, name):
    new_node(editor, TRAIN)
    editor.evaluate("(id) => app.graph.getNodeById(id).toggleAdvanced()", NODE)
    reads, not_reads = METHOD_OF[name]
    change(editor, name, before := editor.values(NODE)[name])
    change(editor, "method", reads)
    assert name in drawn(editor)
    change(editor, "method", not_reads)
    assert name not in drawn(editor)
    assert editor.values(NODE)[name] == before


def test_own_prompts_appear_with_their_choice_and_keep_their_text(editor):
    new_node(editor, TRAIN)
    size = height(editor)
    assert "own_prompts" not in drawn(editor)
    change(editor, "prompt_set", "own")
    assert "own_prompts" in drawn(editor) and height(editor) > size
    change(editor, "own_prompts", "a {} asleep")
    change(editor, "prompt_set", "animate")
    assert "own_prompts" not in drawn(editor) and height(editor) == size
    saved = editor.evaluate("() => app.graphToPrompt().then((made) => made.output)")
    assert saved[str(NODE)]["inputs"]["own_prompts"] == "a {} asleep"


def connect_class_images(editor) -> None:
    editor.evaluate(
        "(id) => { const loader = LiteGraph.createNode('LoadImage'); app.graph.add(loader);"
        " const node = app.graph.getNodeById(id);"
        " loader.connect(0, node, node.findInputSlot('class_images')); app.canvas.draw(true, true); }",
        NODE,
    )


def test_what_needs_a_connection_appears_with_it(editor):
    new_node(editor, FINETUNE)
    editor.evaluate("(id) => app.graph.getNodeById(id).toggleAdvanced()", NODE)
    assert not {"class_caption", "prior_weight", "use_masks"} & set(drawn(editor))
    connect_class_images(editor)
    assert {"class_caption", "prior_weight"} <= set(drawn(editor)) and "use_masks" not in drawn(editor)


def test_a_connected_input_is_shown_even_where_it_is_folded(editor):
    new_node(editor, TRAIN)
    editor.evaluate(
        "(id) => { const text = LiteGraph.createNode('PrimitiveString'); app.graph.add(text);"
        " const node = app.graph.getNodeById(id); text.connect(0, node, node.findInputSlot('caption_template'));"
        " app.canvas.draw(true, true); }",
        NODE,
    )
    assert "caption_template" in drawn(editor) and "initial_words" not in drawn(editor)


def test_loading_undoing_and_pasting_bring_what_was_there(editor):
    new_node(editor, TRAIN)
    change(editor, "method", "AttnDreamBooth stage 1")
    change(editor, "alignment_mean", 0.7)
    editor.evaluate("(id) => app.graph.getNodeById(id).toggleAdvanced()", NODE)
    values, shown, size = editor.values(NODE), drawn(editor), height(editor)
    editor.load(editor.evaluate("() => app.graph.serialize()"))
    assert (editor.values(NODE), drawn(editor), height(editor)) == (values, shown, size)
    editor.evaluate("(id) => app.canvas.selectNode(app.graph.getNodeById(id))", NODE)
    editor.press("Control+c")
    editor.press("Control+v")
    ids = editor.evaluate("() => app.graph.nodes.map((node) => node.id)")
    assert len(ids) == 2
    for id in map(int, ids):
        assert (editor.values(id), drawn(editor, id)) == (values, shown)
    editor.press("Control+z")
    assert (editor.values(NODE), drawn(editor)) == (values, shown)


def test_a_method_hides_and_shows_in_nodes_drawn_as_html(editor, as_html):
    new_node(editor, TRAIN)
    assert "Practice prompts" in editor.evaluate(_HTML_NAMES, NODE)
    editor.page.get_by_role("combobox").filter(has_text="CoRe").first.click()
    editor.page.get_by_role("option", name="Textual Inversion", exact=True).click()
    editor.page.wait_for_timeout(300)
    names = editor.evaluate(_HTML_NAMES, NODE)
    assert "Practice prompts" not in names and "Steps" in names
    assert editor.values(NODE)["prompt_set"] == "animate"


@pytest.mark.parametrize("connects", [False, True])
def test_a_node_that_is_collapsed_keeps_its_height(editor, connects):
    new_node(editor, FINETUNE)
    before = height(editor)
    editor.evaluate("(id) => app.graph.getNodeById(id).collapse()", NODE)
    editor.load(editor.evaluate("() => app.graph.serialize()"))
    if connects:
        connect_class_images(editor)
    editor.evaluate("(id) => app.graph.getNodeById(id).collapse()", NODE)
    if not connects:
        connect_class_images(editor)
    assert editor.evaluate("(id) => app.graph.getNodeById(id).flags.collapsed", NODE) is False
    for _ in range(2):
        editor.evaluate("(id) => app.graph.getNodeById(id).toggleAdvanced()", NODE)
    assert before <= height(editor) < before + 100, "a few inputs more are shown"


def test_a_choice_after_a_run_moves_nothing_but_its_own_inputs(editor):
    new_node(editor, TRAIN)
    before = height(editor)
    change(editor, "method", "Textual Inversion")
    rows = before - height(editor)
    change(editor, "method", "CoRe")
    say = "([id, text]) => app.api.dispatchCustomEvent('progress_text', {nodeId: String(id), text})"
    editor.evaluate(say, [NODE, "Done.\n" * 14])
    editor.page.wait_for_timeout(300)
    size = height(editor)
    assert size > before
    change(editor, "method", "Textual Inversion")
    assert rows > 0 and height(editor) == size - rows
    change(editor, "method", "CoRe")
    assert height(editor) == size
