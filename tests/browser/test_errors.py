"""Errors where the eye is: what a node refuses, or fails with, is read on it and in a message, until the next run."""

from __future__ import annotations

import pytest

TRAIN, PROMPT = 1, 2

# Everything but the pictures' folder and the sampling of a quick start.
_GRAPH = """([train, prompt]) => {
    const add = (type, id, x, y) => {
        const node = LiteGraph.createNode(type); node.id = id; node.pos = [x, y]; app.graph.add(node); return node;
    };
    const join = (from, output, to, input) => from.connect(output, to, to.findInputSlot(input));
    const models = add('CheckpointLoaderSimple', 10, 20, 60), pictures = add('EmptyImage', 11, 20, 300);
    const training = add('CoReTrainEmbedding', train, 440, 60), written = add('CoReConceptPrompt', prompt, 940, 60);
    const shown = add('PreviewAny', 12, 1400, 60);
    for (const [output, input] of ['model', 'clip', 'vae'].entries()) join(models, output, training, input);
    join(pictures, 0, training, 'images'), join(training, 0, written, 'concept'), join(written, 0, shown, 'source');
    const set = (node, name, value) => node.widgets.find((widget) => widget.name === name).value = value;
    set(training, 'concept_name', 'refused'), set(training, 'resolution', 32), set(training, 'steps', 1);
    app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 60]; app.canvas.draw(true, true);
}"""


@pytest.fixture
def graph(editor):
    """A training, and a prompt with its concept, of a checkpoint that is there."""
    editor.load({"nodes": [], "links": [], "version": 0.4})
    editor.evaluate(_GRAPH, [TRAIN, PROMPT])
    yield editor
    editor.stop_all()


def shown(editor, needle: str) -> str:
    """The one of the messages on the screen that has these words."""
    editor.page.get_by_text(needle).first.wait_for()
    (found,) = (text for text in editor.complaints() if needle in text)
    return found


@pytest.mark.parametrize(
    ("node", "name", "value", "sentence", "label"),
    [
        (TRAIN, "concept_name", "two words", "'two words' cannot be used as a name", "Name"),
        (PROMPT, "template", "no place", "'no place' has {} 0 times; write it once", "Prompt"),
    ],
)
def test_what_widgets_show_is_refused_in_the_overlay_and_on_the_node(graph, node, name, value, sentence, label):
    graph.set_value(node, name, value)
    answer = graph.run()
    assert list(answer["node_errors"]) == [str(node)]
    assert f"couldn't validate {name}: {sentence}" in shown(graph, sentence)
    assert graph.text(node).startswith(f"✖ {label}: {sentence}")


def test_it_is_gone_with_the_next_run(graph):
    graph.set_value(TRAIN, "concept_name", "two words")
    graph.run()
    assert graph.text(TRAIN).startswith("✖")
    graph.set_value(TRAIN, "concept_name", "refused")
    assert graph.run()["node_errors"] == {}
    assert not graph.text(TRAIN).startswith("✖")
    assert not any("two words" in text for text in graph.complaints())


def test_what_is_known_later_is_on_the_node_and_in_a_message(graph):
    graph.set_value(TRAIN, "caption_template", "a {} " + "very " * 80)
    assert graph.run()["node_errors"] == {}
    text = graph.wait_for_text(TRAIN, "^✖ Caption: .* needs 2 rows of 77 tokens")
    assert text.removeprefix("✖ ") in shown(graph, "needs 2 rows of 77 tokens")
    graph.set_value(TRAIN, "caption_template", "a {}")
    graph.run()
    assert not graph.text(TRAIN).startswith("✖")
    shown_now = graph.page.locator("[data-testid=error-overlay]:visible, .p-toast-message:visible")
    shown_now.filter(has_text="77 tokens").wait_for(state="hidden", timeout=10_000)  # it fades out
