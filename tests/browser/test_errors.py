"""Errors where the eye is: what a node refuses, or fails with, is read on it and in a message, until the next run."""

from __future__ import annotations

import pytest

TRAIN, PROMPT = 1, 2


@pytest.fixture
def graph(editor):
    editor.load_training(TRAIN, PROMPT)
    yield editor
    editor.stop_all()


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
    assert f"couldn't validate {name}: {sentence}" in graph.complaint(sentence)
    assert graph.text(node).startswith(f"✖ {label}: {sentence}")


def test_a_failure_in_another_workflow_names_no_node_of_this_one(graph):
    prompt = graph.run()["prompt_id"]
    graph.stop_all()
    other = {"id": TRAIN, "type": "CoReConceptPrompt", "title": "Bystander", "pos": [100, 40]}
    graph.load({"nodes": [other], "links": [], "version": 0.4}, "another")
    failed = {"prompt_id": prompt, "node_id": str(TRAIN), "node_type": "CoReTrainEmbedding", "traceback": []}
    failed |= {"exception_type": "ValueError", "exception_message": "concept_name: it is of that workflow\n"}
    graph.evaluate("(failed) => app.api.dispatchCustomEvent('execution_error', failed)", failed)
    shown = graph.page.locator(".p-toast-message:visible").filter(has_text="it is of that workflow")
    shown.wait_for()
    assert "CoRe Train Embedding" in shown.inner_text() and "Bystander" not in shown.inner_text()
    assert graph.text(TRAIN) == ""


def test_it_is_gone_with_the_next_run(graph):
    graph.set_value(TRAIN, "concept_name", "two words")
    graph.run()
    assert graph.text(TRAIN).startswith("✖")
    graph.set_value(TRAIN, "concept_name", "refused")
    assert graph.run()["node_errors"] == {}
    assert not graph.text(TRAIN).startswith("✖")
    assert not any("two words" in text for text in graph.complaints())


def test_the_room_that_it_took_is_given_back(graph):
    height = "(id) => app.graph.getNodeById(id).size[1]"
    before = graph.evaluate(height, PROMPT)
    for template, grown in (("no place", True), ("a {} here", False)):
        graph.set_value(PROMPT, "template", template)
        graph.run()
        graph.page.wait_for_timeout(300)
        assert (graph.evaluate(height, PROMPT) > before) == grown
    assert graph.evaluate(height, PROMPT) == before


def test_what_is_known_later_is_on_the_node_and_in_a_message(graph):
    graph.set_value(TRAIN, "caption_template", "a {} " + "very " * 80)
    assert graph.run()["node_errors"] == {}
    text = graph.wait_for_text(TRAIN, "^✖ Caption: .* needs 2 rows of 77 tokens")
    assert text.removeprefix("✖ ") in graph.complaint("needs 2 rows of 77 tokens")
    graph.set_value(TRAIN, "caption_template", "a {}")
    graph.run()
    assert not graph.text(TRAIN).startswith("✖")
    shown_now = graph.page.locator("[data-testid=error-overlay]:visible, .p-toast-message:visible")
    shown_now.filter(has_text="77 tokens").wait_for(state="hidden", timeout=10_000)  # it fades out
