"""What a user sees of a training: progress, pictures and curve on the nodes, the result in words, and cancel."""

from __future__ import annotations

import json
import re
from pathlib import Path

QUICK_START = Path(__file__).resolve().parents[2] / "example_workflows" / "quick_start.json"
TRAINING, LOSS_PLOT, FIRST_PICTURES = 4, 5, 12
_TEXT = "(id) => app.graph.getNodeById(id).widgets.find((w) => w.name === '$$node-text-preview')?.value ?? ''"
_PICTURES = "(id) => (app.graph.getNodeById(id).imgs ?? []).map((image) => image.src)"
PATIENCE = 180_000  # In milliseconds; a training on a busy machine.


def open_quick_start(editor, name: str, steps: int, **values) -> None:
    """Of a size that trains in seconds."""
    editor.load(json.loads(QUICK_START.read_text(encoding="utf-8")), "quick_start")
    values |= {"concept_name": name, "steps": steps, "batch_size": 1, "resolution": 32, "overwrite": True}
    for input_name, value in values.items():
        editor.set_value(TRAINING, input_name, value)
    for node in editor.evaluate("() => app.graph.nodes.filter((node) => node.type === 'KSampler').map((n) => n.id)"):
        editor.set_value(node, "steps", 2)


def wait_for_text(editor, pattern: str) -> str:
    script = f"([id, pattern]) => new RegExp(pattern, 's').test(({_TEXT})(id))"
    editor.page.wait_for_function(script, arg=[TRAINING, pattern], timeout=PATIENCE)
    return editor.evaluate(_TEXT, TRAINING)


def wait_for_pictures(editor, node_id: int, count: int) -> list[str]:
    """Their addresses; the editor shows a picture when it has loaded it."""
    script = f"([id, count]) => ({_PICTURES})(id).length === count"
    editor.page.wait_for_function(script, arg=[node_id, count], timeout=PATIENCE)
    return editor.evaluate(_PICTURES, node_id)


def text_is_in_view(editor) -> bool:
    """Whether all of the training node's text is inside the box that shows it."""
    script = """() => [...document.querySelectorAll('.dom-widget')]
        .filter((box) => box.innerText.includes('embedding:'))
        .every((box) => box.scrollHeight <= box.clientHeight + 2)"""
    return editor.evaluate(script)


def test_run_shows_progress_then_the_result_in_words_pictures_and_curve(editor):
    open_quick_start(editor, "watched", steps=3, rescale_from=1, rescale_to=2, preview_every=2, save_every=0)
    assert editor.run()["node_errors"] == {}
    running = wait_for_text(editor, "^step 2/3 · .*left · diffusion .*context_attention")
    live = wait_for_pictures(editor, TRAINING, 1)
    assert live[0].startswith("blob:"), "no live preview"
    done = wait_for_text(editor, "embedding:watched")
    assert re.search(r"watched\.safetensors: 3 steps, .*\nIn prompts: embedding:watched\nLast step: .*diffusion", done)
    assert running != done
    wait_for_pictures(editor, FIRST_PICTURES, 2)
    wait_for_pictures(editor, LOSS_PLOT, 1)
    assert editor.evaluate(_PICTURES, TRAINING) != live, "the preview is still that of step 2"
    assert editor.evaluate(_TEXT, TRAINING) == done
    assert text_is_in_view(editor)
    assert editor.errors == []


def test_cancel_stops_within_two_steps_and_says_what_was_kept(editor, server):
    open_quick_start(editor, "stopped", steps=300, preview_every=0)
    editor.run()
    shown = wait_for_text(editor, "^step [2-9]/300 ")
    editor.page.get_by_label("Cancel current run").click()
    text = wait_for_text(editor, "^stopped: stopped after step")
    (stopped,) = re.findall(r"after step (\d+)", text)
    (seen,) = re.findall(r"^step (\d+)", shown)
    assert int(stopped) <= int(seen) + 2
    assert f"embedding:stopped-step{stopped}" in text and "resume_from = stopped" in text
    assert (server.process.base.embeddings / f"stopped-step{stopped}.safetensors").is_file()
    assert editor.errors == []
