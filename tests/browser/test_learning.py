"""The animation of README: the quick start's concept being learned, as the editor shows it.

WRITE_PICTURES=1 python scripts/test.py -m long tests/browser/test_learning.py writes it anew.
"""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING

import pytest
from driver.quick_start import TRAINING_NODE, WORKFLOW
from PIL import Image
from preparation.by_place import ROOT

if TYPE_CHECKING:
    from browser.editor import Editor

pytestmark = pytest.mark.long
KEPT, MOST_BYTES, WIDTH, MOST_FRAMES = ROOT / "docs" / "images" / "learning.webp", 200_000, 480, 24
VALUES = {"concept_name": "animated", "steps": 100, "batch_size": 6, "preview_every": 10, "save_every": 0}
LOOK_EVERY, PATIENCE = 0.5, 480  # In seconds.
SHOWN, MILLISECONDS, LAST_MILLISECONDS = ("Your photos", "CoRe Train Embedding"), 600, 3000
# The named nodes as large as the window has room for; the last one gets room for its preview.
_FITTED = """([titles, height]) => {
    document.querySelectorAll('.minimap-main-container').forEach((map) => { map.style.display = 'none'; });
    app.canvas.show_info = false;
    const nodes = titles.map((title) => app.graph.nodes.find((node) => node.title === title));
    const last = nodes.at(-1);
    last.setSize([last.size[0], height]);
    const left = Math.min(...nodes.map((node) => node.pos[0])) - 15;
    const top = Math.min(...nodes.map((node) => node.pos[1])) - 45;
    const right = Math.max(...nodes.map((node) => node.pos[0] + node.size[0])) + 10;
    const bottom = top + height + 60;
    const canvas = app.canvas.canvas.getBoundingClientRect(), ds = app.canvas.ds;
    ds.scale = Math.min((canvas.width - 100) / (right - left), (canvas.height - 180) / (bottom - top));
    ds.offset = [80 / ds.scale - left, 110 / ds.scale - top];
    app.canvas.draw(true, true);
    return {x: canvas.left + 80, y: canvas.top + 110,
            width: (right - left) * ds.scale, height: (bottom - top) * ds.scale};
}"""


def test_the_animation_shows_a_concept_being_learned(editor: Editor):
    editor.load_template(WORKFLOW.stem)
    editor.use_mini_world()
    (training,) = editor.evaluate("(type) => app.graph.nodes.filter((n) => n.type === type).map((n) => n.id)",
                                  TRAINING_NODE)  # fmt: skip
    for name, value in VALUES.items():
        editor.set_value(training, name, value)
    box = editor.evaluate(_FITTED, [list(SHOWN), 1000])
    frames = [taken(editor, box)]
    editor.run()
    until = time.monotonic() + PATIENCE
    while not (done := "embedding:animated" in editor.text(training)) and time.monotonic() < until:
        editor.page.wait_for_timeout(1000 * LOOK_EVERY)
        frames.append(taken(editor, box))
    assert done
    editor.page.wait_for_timeout(1000)
    frames.append(taken(editor, box))
    chosen = [frames[round(i * (len(frames) - 1) / (MOST_FRAMES - 1))] for i in range(MOST_FRAMES)]
    size = WIDTH, round(WIDTH * chosen[0].height / chosen[0].width)
    small = [frame.resize(size, Image.Resampling.LANCZOS) for frame in chosen]
    if os.environ.get("WRITE_PICTURES"):
        times = [MILLISECONDS] * (len(small) - 1) + [LAST_MILLISECONDS]
        small[0].save(KEPT, save_all=True, append_images=small[1:], duration=times, loop=0, quality=42, method=6)
    with Image.open(KEPT) as kept:
        assert KEPT.stat().st_size < MOST_BYTES and kept.n_frames > MOST_FRAMES // 2
        assert kept.width / kept.height == pytest.approx(size[0] / size[1], rel=0.05)


def taken(editor: Editor, box: dict[str, float]) -> Image.Image:
    return Image.open(io.BytesIO(editor.page.screenshot(clip=box))).convert("RGB")
