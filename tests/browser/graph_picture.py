"""Pictures of the editor's graphs, as README and the gallery show them."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from browser.editor import Editor

MARGIN, SOME_PIXELS, MOST_WIDE = 20, 0.05, 1000
BARS = (80, 110, 70)
"""Pixels at the window's left, top and bottom that the editor's own bars take."""
# Fits the graph into the window with nothing over it, and puts a number beside the title of each of these nodes; gives
# the graph's box.
_FITTED = """([titles, margin, [barLeft, barTop, barBottom]]) => {
    document.querySelectorAll('.minimap-main-container').forEach((map) => { map.style.display = 'none'; });
    app.canvas.show_info = false;
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
_AS_BEFORE = """() => {
    document.querySelectorAll('.minimap-main-container').forEach((map) => { map.style.display = ''; });
    document.querySelectorAll('.graph-step').forEach((number) => number.remove());
    app.canvas.show_info = true;
}"""


def picture_of_graph(editor: Editor, numbered: Sequence[str] = ()) -> Image.Image:
    """The graph that is open. numbered: titles of nodes that get 1, 2, 3 …"""
    fitted = editor.evaluate(_FITTED, [list(numbered), MARGIN, BARS])
    assert fitted["missing"] == []
    editor.page.wait_for_timeout(500)
    taken = editor.page.screenshot(clip=fitted["box"])
    editor.evaluate(_AS_BEFORE)
    return Image.open(io.BytesIO(taken)).convert("RGB")


def expect_kept(taken: Image.Image, file: Path, most_bytes: int) -> None:
    """That the kept picture is of this graph, by its shape; with WRITE_PICTURES=1 it is written anew."""
    if os.environ.get("WRITE_PICTURES"):
        file.parent.mkdir(parents=True, exist_ok=True)
        width = min(taken.width, MOST_WIDE)
        small = taken.resize((width, round(taken.height * width / taken.width)), Image.Resampling.LANCZOS)
        small.save(file, quality=55, method=6)
    with Image.open(file) as kept:
        assert file.stat().st_size < most_bytes
        assert kept.width / kept.height == pytest.approx(taken.width / taken.height, rel=SOME_PIXELS)
