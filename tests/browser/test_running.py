"""What a user sees of a training: progress, pictures and curve on the nodes, the result in words, and cancel."""

from __future__ import annotations

import json
import re
from pathlib import Path

QUICK_START = Path(__file__).resolve().parents[2] / "example_workflows" / "quick_start.json"
TRAINING, LOSS_PLOT, FIRST_PICTURES = 4, 5, 12


def open_quick_start(editor, name: str, steps: int, **values) -> None:
    """Of a size that trains in seconds."""
    editor.load(json.loads(QUICK_START.read_text(encoding="utf-8")), "quick_start")
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
    running = editor.wait_for_text(TRAINING, "^step 2/3 · .*left · diffusion .*context_attention")
    live = editor.wait_for_pictures(TRAINING, 1)
    assert live[0].startswith("blob:"), "no live preview"
    done = editor.wait_for_text(TRAINING, "embedding:watched")
    assert re.search(r"watched\.safetensors: 3 steps, .*\nIn prompts: embedding:watched\nLast step: .*diffusion", done)
    assert running != done
    editor.wait_for_pictures(FIRST_PICTURES, 2)
    editor.wait_for_pictures(LOSS_PLOT, 1)
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
    assert f"embedding:stopped-step{stopped}" in text and "resume_from = stopped" in text
    assert (server.process.base.embeddings / f"stopped-step{stopped}.safetensors").is_file()
    assert editor.errors == []
