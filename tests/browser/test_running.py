"""What a user sees of a training: progress, pictures and curve on the nodes, the result in words, and cancel."""

from __future__ import annotations

import re

from driver.quick_start import WORKFLOW

TRAINING, PICTURES = 4, 11
ACCEPTED = {"prompt_id": "of-no-server", "number": 1, "node_errors": {}}
# The only node, inside a subgraph whose node shows "steps" alone; returns that node's id.
IN_SUBGRAPH = """() => {
    const {subgraph, node: host} = app.graph.convertToSubgraph(new Set(app.graph.nodes)), [inside] = subgraph.nodes;
    const slot = inside.inputs.find((input) => input.widget?.name === 'steps');
    subgraph.addInput('steps', String(slot.type)).connect(slot, inside);
    return host.id;
}"""
TEXT_INSIDE = """() => app.canvas.graph.getNodeById(1).widgets
    .find(({name}) => name === '$$node-text-preview')?.value ?? ''"""
HTML_NODES = "(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
WIDTHS = """[...document.querySelectorAll("[data-node-id='1'] img")].map((image) => image.naturalWidth)"""
# A picture of 48 pixels, as the server sends it while node 1 runs.
PREVIEW = """async () => {
    const canvas = new OffscreenCanvas(48, 48);
    canvas.getContext('2d').fillRect(0, 0, 48, 48);
    const blob = await canvas.convertToBlob();
    app.api.dispatchCustomEvent('b_preview_with_metadata', {blob, displayNodeId: '1'});
}"""
NODES = "() => JSON.stringify(app.rootGraph.serialize().nodes)"


def open_quick_start(editor, name: str, steps: int, **values) -> None:
    """Of a size that trains in seconds."""
    editor.load_template(WORKFLOW.stem)
    editor.use_mini_world()
    values |= {"concept_name": name, "steps": steps, "batch_size": 1, "resolution": 32, "overwrite": True}
    for input_name, value in values.items():
        editor.set_value(TRAINING, input_name, value)
    for node in editor.evaluate("() => app.graph.nodes.filter((node) => node.type === 'KSampler').map((n) => n.id)"):
        editor.set_value(node, "steps", 2)


def text_is_in_view(editor) -> bool:
    """Whether all of the training node's text is inside the box that shows it."""
    script = """() => [...document.querySelectorAll('.dom-widget')]
        .filter((box) => box.innerText.includes('embedding:'))
        .every((box) => box.scrollHeight <= box.clientHeight + 2)"""
    return editor.evaluate(script)


def test_a_run_shows_progress_then_words_pictures_and_curve(editor):
    open_quick_start(editor, "watched", steps=3, rescale_from=0.3, rescale_to=0.7, preview_every=2, save_every=0)
    assert editor.run()["node_errors"] == {}
    running = editor.wait_for_text(TRAINING, r"^step 2/3 · \d+ s left · loss [\d.]+ \(step \d\)$")
    live = editor.wait_for_pictures(TRAINING, 1)
    assert live[0].startswith("blob:"), "no live preview"
    done = editor.wait_for_text(TRAINING, "embedding:watched")
    assert done.startswith("Done. Write embedding:watched in any prompt.\nwatched.safetensors: 3 steps, ")
    assert re.search(r"\nSteady loss: \S+, now \S+\nLast step: .*L_diffusion", done)
    assert running != done
    editor.wait_for_pictures(PICTURES, 2)
    assert editor.pictures(TRAINING) != live, "the preview is still that of step 2"
    assert editor.text(TRAINING) == done
    assert text_is_in_view(editor)
    assert editor.errors == []


def test_cancel_stops_within_two_steps_and_says_what_was_kept(editor, server):
    open_quick_start(editor, "stopped", steps=300, preview_every=0)
    editor.run()
    shown = editor.wait_for_text(TRAINING, "^step [2-9]/300 ")
    editor.page.get_by_label("Cancel current run").click()
    text = editor.wait_for_text(TRAINING, "^stopped: stopped after step")
    (stopped,) = re.findall(r"after step (\d+)", text)
    (seen,) = re.findall(r"^step (\d+)", shown)
    assert int(stopped) <= int(seen) + 2
    kept = f"stopped-steps/stopped-step{stopped}"
    assert f"Kept: embedding:{kept}, and a state, from which Run goes on." in text
    assert (server.process.base.embeddings / f"{kept}.safetensors").is_file()

    editor.set_value(TRAINING, "steps", int(stopped) + 2)
    editor.run()
    done = editor.wait_for_text(TRAINING, "^Done")
    assert f"{int(stopped) + 2} steps, {stopped} of them before it stopped" in done
    assert editor.errors == []


def test_what_a_run_says_is_not_put_on_the_same_node_of_another_workflow(editor):
    """Both have the same id, as two that one template was opened for."""
    open_quick_start(editor, "elsewhere", steps=6, preview_every=0, save_every=0)
    tab = editor.page.locator(".workflow-tab").count()
    editor.run()
    other = {"id": TRAINING, "type": "CoReTrainEmbedding", "pos": [100, 40]}
    same = editor.evaluate("() => app.rootGraph.id")
    editor.load({"id": same, "nodes": [other], "links": [], "version": 0.4}, "another")
    assert editor.evaluate("() => app.rootGraph.id") == same
    queue = f"http://{editor.address}/api/queue"
    assert any(editor.page.request.get(queue).json().values()), "it runs still"
    while any(editor.page.request.get(queue).json().values()):
        editor.page.wait_for_timeout(200)
    editor.page.wait_for_timeout(1000)
    assert editor.text(TRAINING) == ""
    editor.page.locator(".workflow-tabs .p-togglebutton").nth(tab - 1).click()
    editor.page.wait_for_function("() => app.graph.nodes.length > 1")
    assert "embedding:elsewhere" in editor.wait_for_text(TRAINING, "^Done")
    assert editor.errors == []


def queue_unmade(editor) -> None:
    """Run, which nobody makes."""
    editor.page.route("**/api/prompt", lambda route: route.fulfill(json=ACCEPTED))
    try:
        editor.run()
    finally:
        editor.page.unroute("**/api/prompt")


def end(editor, node: str, **output) -> None:
    """What was queued, as the server reports a node's end."""
    output = {"text": ["Said."], **output}
    done = {"prompt_id": ACCEPTED["prompt_id"], "node": node, "display_node": node, "output": output}
    editor.evaluate("(done) => app.api.dispatchCustomEvent('executed', done)", done)


def test_a_node_drawn_as_html_shows_its_result_once(editor):
    editor.evaluate(HTML_NODES, True)
    try:
        node = {"id": 1, "type": "CoReTrainEmbedding", "pos": [100, 40]}
        editor.load({"nodes": [node], "links": [], "version": 0.4})
        queue_unmade(editor)
        editor.evaluate(PREVIEW)
        editor.page.wait_for_function(f"() => {WIDTHS}.includes(48)")
        end(editor, "1", images=[{"filename": "example.png", "subfolder": "", "type": "input"}])
        editor.page.wait_for_function(f"() => {WIDTHS}.length && !{WIDTHS}.includes(48)", timeout=5000)
    finally:
        editor.evaluate(HTML_NODES, False)
    assert editor.errors == []


def test_a_result_is_kept_of_a_run_that_went_on_through_a_reload(editor):
    node = {"id": 1, "type": "CoReTrainEmbedding", "pos": [100, 40]}
    editor.load({"nodes": [node], "links": [], "version": 0.4})
    queue_unmade(editor)
    editor.page.wait_for_timeout(1500)  # The editor keeps drafts a moment later.
    editor.go()
    editor.page.wait_for_function("() => app.graph?.nodes.length === 1")
    editor.page.wait_for_timeout(500)
    end(editor, "1")
    assert editor.text(1) == "Said."
    editor.load(editor.evaluate("() => app.graph.serialize()"))
    editor.wait_for_text(1, "^Said.$", patience=5000)
    assert editor.errors == []


def test_a_result_is_kept_while_what_a_subgraphs_node_shows_is_the_same(editor):
    node = {"id": 1, "type": "CoReTrainEmbedding", "pos": [100, 40]}
    editor.load({"nodes": [node], "links": [], "version": 0.4})
    host = editor.evaluate(IN_SUBGRAPH)
    queue_unmade(editor)
    end(editor, f"{host}:1")
    for steps, said in ((300, "Said."), (301, ""), (300, "Said.")):
        editor.set_value(host, "steps", steps)
        editor.load(editor.evaluate("() => app.graph.serialize()"))
        editor.evaluate("(id) => app.canvas.setGraph(app.graph.getNodeById(id).subgraph)", host)
        editor.page.wait_for_timeout(300)
        assert editor.evaluate(TEXT_INSIDE) == said, steps
        editor.evaluate("() => app.canvas.setGraph(app.rootGraph)")
    assert editor.errors == []


def test_what_a_node_said_stays_through_tabs_and_reloads(editor):
    open_quick_start(editor, "said", steps=2, preview_every=0, save_every=0)
    editor.run()
    done = editor.wait_for_text(TRAINING, "^Done")
    editor.page.wait_for_timeout(500)
    saved = editor.evaluate(NODES)

    tab = editor.page.locator(".workflow-tab").count()
    editor.load({"nodes": [], "links": [], "version": 0.4}, "another")
    assert editor.evaluate("() => app.graph.nodes.length") == 0
    editor.page.locator(".workflow-tabs .p-togglebutton").nth(tab - 1).click()
    editor.page.wait_for_function("() => app.graph.nodes.length > 0")
    assert editor.wait_for_text(TRAINING, "^Done") == done

    editor.page.wait_for_timeout(1500)  # The editor keeps drafts a moment later.
    editor.go()
    editor.page.wait_for_function("() => app.graph?.nodes.length > 0")
    assert editor.wait_for_text(TRAINING, "^Done") == done
    assert editor.evaluate("() => JSON.stringify(app.rootGraph.serialize().nodes)") == saved, (
        "the workflow is as it was"
    )

    editor.set_value(TRAINING, "steps", 3)
    again = editor.evaluate("() => app.rootGraph.serialize()")
    editor.load(again, "changed")
    editor.page.wait_for_timeout(500)
    assert editor.text(TRAINING) == "", "it said that of other values"
    assert editor.errors == []
