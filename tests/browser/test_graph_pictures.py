"""Pictures that README shows of the editor: the quick start's graph with its four steps, and a training while it runs.

WRITE_PICTURES=1 python scripts/test.py tests/browser/test_graph_pictures.py tests/browser/test_templates.py writes them
anew, and those of the gallery.
"""

from __future__ import annotations

import io
import os

import pytest
from browser.graph_picture import expect_kept, picture_of_graph
from driver.quick_start import WORKFLOW
from PIL import Image
from preparation.by_place import ROOT

IMAGES = ROOT / "docs" / "images"
ANIMATION = IMAGES / "training.webp"
STEPS = ("Load Checkpoint", "Your photos", "CoRe Train Embedding", "Your prompt")
"""Titles of the nodes that README's steps name, in their order; the last is what Run is for."""
MOST_BYTES, MOST_BYTES_ANIMATED = 100_000, 500_000
TRAINING, SETTINGS = 4, {"concept_name": "my-dog", "steps": 100, "preview_every": 10, "overwrite": True}
EVERY, HELD, LAST = 10, 700, 3000
"""Steps between two frames; how long one is shown, and the last, in milliseconds."""
_NODE = """(id) => {
    const node = app.graph.getNodeById(id), {scale, offset} = app.canvas.ds;
    const [x, y, width, height] = node.boundingRect, canvas = app.canvas.canvas.getBoundingClientRect();
    return {x: canvas.left + (x + offset[0]) * scale - 6, y: canvas.top + (y + offset[1]) * scale - 6,
            width: width * scale + 12, height: height * scale + 12};
}"""


def test_the_picture_shows_the_graph_as_it_is(editor):
    editor.load_template(WORKFLOW.stem)
    expect_kept(picture_of_graph(editor, STEPS), IMAGES / "quick_start.webp", MOST_BYTES)


def test_the_animation_is_short_and_small():
    with Image.open(ANIMATION) as kept:
        assert 5 <= kept.n_frames <= 20
        assert ANIMATION.stat().st_size < MOST_BYTES_ANIMATED


@pytest.mark.skipif(not os.environ.get("WRITE_PICTURES"), reason="only to write the animation anew")
def test_a_training_is_taken_while_it_runs(editor):
    editor.load_template(WORKFLOW.stem)
    editor.use_mini_world()
    for name, value in SETTINGS.items():
        editor.set_value(TRAINING, name, value)
    editor.run()
    frames = []
    for step in (*range(EVERY, SETTINGS["steps"], EVERY), None):
        editor.wait_for_text(TRAINING, "^Done" if step is None else f"^step {step + 1}/")
        editor.page.wait_for_timeout(300)
        taken = editor.page.screenshot(clip=editor.evaluate(_NODE, TRAINING))
        frames.append(Image.open(io.BytesIO(taken)).convert("RGB"))
    size = max(frame.width for frame in frames), max(frame.height for frame in frames)
    framed = [Image.new("RGB", size, (32, 33, 36)) for _ in frames]
    for canvas, frame in zip(framed, frames, strict=True):
        canvas.paste(frame)
    durations = [HELD] * (len(framed) - 1) + [LAST]
    framed[0].save(ANIMATION, save_all=True, append_images=framed[1:], duration=durations, loop=0, quality=80)
