"""A picture of the quick start's graph with its four steps, as README shows it, taken from the editor.

WRITE_PICTURES=1 python scripts/test.py tests/browser/test_graph_pictures.py writes it anew.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest
from PIL import Image
from preparation.by_place import ROOT

PICTURE = ROOT / "docs" / "images" / "quick_start.jpg"
TEMPLATE = "Train my dog - quick start"
STEPS = ("Load Checkpoint", "Your photos", "CoRe Train Embedding", "Your prompt")
"""Titles of the nodes that README's steps name, in their order; the last is what Run is for."""
MARGIN, MOST_BYTES = 20, 250_000
BARS = (80, 110, 70)
"""Pixels at the window's left, top and bottom that the editor's own bars take."""
OVER_THE_GRAPH = ("Comfy.Minimap.Visible", "Comfy.Graph.CanvasInfo")
# Fits the graph into the window, and puts a number beside the title of each step's node; gives the graph's box.
_NUMBERED = """([titles, margin, [barLeft, barTop, barBottom]]) => {
    const boxes = app.graph.nodes.map((node) => { node.updateArea?.(); return node.boundingRect; });
    for (const {pos, size} of app.graph.groups) boxes.push([pos[0], pos[1], size[0], size[1]]);
    const left = Math.min(...boxes.map((box) => box[0])) - margin;
    const top = Math.min(...boxes.map((box) => box[1])) - margin;
    const right = Math.max(...boxes.map((box) => box[0] + box[2])) + margin;
    const bottom = Math.max(...boxes.map((box) => box[1] + box[3])) + margin;
    const canvas = app.canvas.canvas.getBoundingClientRect(), ds = app.canvas.ds;
    const room = [canvas.width - barLeft - 20, canvas.height - barTop - barBottom];
    ds.scale = Math.min(room[0] / (right - left), room[1] / (bottom - top));
    ds.offset = [barLeft / ds.scale - left, barTop / ds.scale - top];
    const at = (x, y) => [canvas.left + (x + ds.offset[0]) * ds.scale, canvas.top + (y + ds.offset[1]) * ds.scale];
    app.canvas.draw(true, true);
    document.querySelectorAll('.graph-step').forEach((old) => old.remove());
    const missing = titles.filter((title) => !app.graph.nodes.some((node) => node.title === title));
    titles.forEach((title, index) => {
        const node = app.graph.nodes.find((node) => node.title === title);
        if (!node) return;
        const number = document.createElement('div');
        number.className = 'graph-step';
        number.textContent = index + 1;
        const [x, y, width] = node.boundingRect, place = at(x + width, y);
        Object.assign(number.style, {
            position: 'fixed', zIndex: 99999, width: '44px', height: '44px', borderRadius: '50%',
            left: `${place[0] - 30}px`, top: `${place[1] - 14}px`,
            background: '#f0b454', color: '#16181d', font: 'bold 28px sans-serif', textAlign: 'center',
            lineHeight: '44px', boxShadow: '0 1px 6px #000'});
        document.body.append(number);
    });
    const [x, y] = at(left, top);
    return {missing, box: {x, y, width: (right - left) * ds.scale, height: (bottom - top) * ds.scale}};
}"""


@pytest.fixture(scope="module")
def taken(opened) -> Iterator[Image.Image]:
    for setting in OVER_THE_GRAPH:
        opened.set(setting, False)
    opened.start_again()
    opened.load_template(TEMPLATE)
    numbered = opened.evaluate(_NUMBERED, [list(STEPS), MARGIN, BARS])
    assert numbered["missing"] == []
    opened.page.wait_for_timeout(500)
    yield Image.open(io.BytesIO(opened.page.screenshot(clip=numbered["box"]))).convert("RGB")
    for setting in OVER_THE_GRAPH:
        opened.set(setting, True)
    opened.start_again()


def test_the_picture_shows_the_graph_as_it_is(taken):
    if os.environ.get("WRITE_PICTURES"):
        taken.save(PICTURE, quality=88, optimize=True, progressive=True)
    kept = Image.open(PICTURE).convert("RGB")
    assert PICTURE.stat().st_size < MOST_BYTES
    assert kept.width / kept.height == pytest.approx(taken.width / taken.height, rel=0.05)
