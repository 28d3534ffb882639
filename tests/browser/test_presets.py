"""Choosing a preset fills in other inputs; loading, pasting and undoing do not."""

from __future__ import annotations

import pytest

GRAPHS = {
    "CoReUNetIdentityFinetune": ("preset", "AttnDreamBooth stage 2"),
    "CoReTrainEmbedding": ("method", "AttnDreamBooth stage 1"),
}
NODE = 1
ARROWS = """([id, name]) => {
    const node = app.graph.getNodeById(id), widget = node.widgets.find((widget) => widget.name === name);
    const {scale, offset} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect();
    const x = (inside) => box.left + (node.pos[0] + inside + offset[0]) * scale;
    return [x(25), box.top + (node.pos[1] + widget.y + 10 + offset[1]) * scale, x(node.size[0] - 25)];
}"""
# The node inside as many subgraphs, each of which shows these inputs of it.
SUBGRAPH = """([id, names, levels]) => {
    let node = app.graph.getNodeById(id);
    for (let level = 0; level < levels; level++) {
        const {subgraph, node: host} = app.graph.convertToSubgraph(new Set([node]));
        const inside = subgraph.nodes[0];
        for (const name of names) {
            const at = inside.inputs.findIndex((input) => input.name === name || input.widget?.name === name);
            subgraph.addInput(name, String(inside.inputs[at].type)).connect(inside.inputs[at], inside);
        }
        node = host;
    }
    node.pos = [100, 40];
}"""


@pytest.fixture(scope="module")
def tables(server):
    """Per node: defaults of its inputs, and values that each option fills in, both as the server declares them."""

    def read(node_id: str, name: str):
        inputs = server.client.get(f"/object_info/{node_id}")[node_id]["input"]
        options = {key: spec[-1] for kind in ("required", "optional") for key, spec in inputs[kind].items()}
        fills = options[name]["fills"]
        named = {key for values in fills.values() for key in values}
        return {option: {**{key: options[key]["default"] for key in named}, **fills[option]} for option in fills}

    return {node_id: read(node_id, name) for node_id, (name, _) in GRAPHS.items()}


@pytest.fixture(params=GRAPHS)
def node(request, editor, tables):
    """The id, the filling input, an option and the table of a node that stands alone in the editor."""
    node = {"id": NODE, "type": request.param, "pos": [100, 40], "size": [400, 600]}
    editor.load({"nodes": [node], "links": [], "version": 0.4})
    return (*GRAPHS[request.param], tables[request.param])


def filled(editor, table) -> dict:
    """The inputs that the table names, as they are."""
    (any_option, *_) = table.values()
    values = editor.values(NODE)
    return {name: values[name] for name in any_option}


def test_an_option_fills_in_its_values_and_else_the_defaults(editor, node):
    name, _, table = node
    for option in [*list(table)[1:], next(iter(table))]:
        editor.choose(NODE, name, option)
        assert editor.values(NODE)[name] == option
        assert filled(editor, table) == table[option]


def test_an_option_that_is_chosen_again_fills_in_again(editor, node):
    name, option, table = node
    editor.choose(NODE, name, option)
    for changed in ("steps", "batch_size"):
        editor.set_value(NODE, changed, 7)
    editor.choose(NODE, name, option)
    assert filled(editor, table) == table[option]


def test_other_inputs_stay(editor, node):
    name, option, table = node
    editor.set_value(NODE, "resolution", 768)
    before = editor.values(NODE)
    editor.choose(NODE, name, option)
    after = editor.values(NODE)
    assert {key for key in after if after[key] != before[key]} <= {name, *table[option]}


def test_undo_takes_back_a_choice_and_what_it_filled_in(editor, node):
    name, option, table = node
    before = editor.values(NODE)
    editor.choose(NODE, name, option)
    editor.press("Control+z")
    assert editor.values(NODE) == before
    editor.press("Control+y")
    assert filled(editor, table) == table[option]


def test_loading_and_pasting_keep_what_was_changed_afterwards(editor, node):
    name, option, _ = node
    editor.choose(NODE, name, option)
    editor.set_value(NODE, "steps", 7)
    kept = editor.values(NODE)
    editor.load(editor.evaluate("() => app.graph.serialize()"))
    assert editor.values(NODE) == kept
    editor.evaluate("(id) => app.canvas.selectNode(app.graph.getNodeById(id))", NODE)
    editor.press("Control+c")
    editor.press("Control+v")
    copies = editor.evaluate("() => app.graph.nodes.map((node) => node.id)")
    assert len(copies) == 2
    assert all(editor.values(copy) == kept for copy in copies)


def test_renaming_the_input_fills_in_nothing(editor, node):
    """The editor then calls the input's callback, as if its value had been chosen again."""
    name, option, _ = node
    editor.choose(NODE, name, option)
    editor.set_value(NODE, "steps", 7)
    editor.evaluate(
        "([id, name]) => { const w = app.graph.getNodeById(id).widgets.find((w) => w.name === name);"
        " w.callback(w.value); }",
        [NODE, name],
    )
    assert editor.values(NODE)["steps"] == 7


@pytest.mark.parametrize("side", [0, -1], ids=["first", "last"])
def test_the_arrow_that_leads_no_further_fills_in_nothing(editor, node, side):
    name, _, table = node
    editor.choose(NODE, name, list(table)[side])
    editor.set_value(NODE, "steps", 7)
    left, y, right = editor.evaluate(ARROWS, [NODE, name])
    editor.page.mouse.click(left if side == 0 else right, y)
    editor.page.wait_for_timeout(300)
    assert editor.values(NODE)["steps"] == 7
    editor.page.mouse.click(right if side == 0 else left, y)
    editor.page.wait_for_timeout(300)
    assert filled(editor, table) == table[list(table)[1 if side == 0 else -2]]


@pytest.mark.parametrize("as_html", [False, True], ids=["classic", "html"])
@pytest.mark.parametrize("levels", [1, 2])
def test_a_subgraphs_node_fills_in_what_is_inside(editor, node, as_html, levels):
    """Of the inputs that it shows itself, its own values."""
    name, option, table = node
    editor.evaluate(SUBGRAPH, [NODE, [name, "steps"], levels])
    host = editor.evaluate("() => app.graph.nodes[0].id")
    editor.load(editor.evaluate("() => app.graph.serialize()"))
    editor.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 60]; app.canvas.draw(true, true); }")
    editor.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", as_html)
    try:
        for change in (option, option, next(iter(table))):
            editor.set_value(host, "steps", 7)
            if as_html:
                editor.page.get_by_role("combobox").filter(visible=True).first.click()
                editor.page.get_by_role("option", name=change, exact=True).click()
            else:
                editor.choose(host, name, change)
            editor.page.wait_for_timeout(300)
            inputs = editor.evaluate("async () => Object.values((await app.graphToPrompt()).output)[0].inputs")
            assert inputs[name] == change
            assert {key: inputs[key] for key in table[change]} == table[change]
    finally:
        editor.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    editor.choose(host, name, option)
    editor.set_value(host, "steps", 7)
    before = editor.evaluate("async () => (await app.graphToPrompt()).output")
    editor.load(editor.evaluate("() => app.graph.serialize()"))
    editor.page.mouse.click(1000, 800)
    editor.press("Control+z")
    editor.press("Control+y")
    assert editor.evaluate("async () => (await app.graphToPrompt()).output") == before, "loading fills in nothing"
    assert editor.errors == []


def test_it_works_in_nodes_drawn_as_html_too(editor, node):
    _, option, table = node
    editor.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    try:
        first = next(iter(table))
        editor.page.get_by_role("combobox").filter(has_text=first).click()
        editor.page.get_by_role("option", name=option, exact=True).click()
        editor.page.wait_for_function("(id) => app.graph.getNodeById(id)", arg=NODE)
        assert filled(editor, table) == table[option]
        editor.set_value(NODE, "steps", 7)
        editor.page.get_by_role("combobox").filter(has_text=option).click()
        editor.page.get_by_role("option", name=option, exact=True).click()
        assert filled(editor, table) == table[option]
    finally:
        editor.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
