"""A picture of the quick start's graph with its four steps, as README shows it, taken from the editor.

WRITE_PICTURES=1 python scripts/test.py tests/browser/test_graph_pictures.py tests/browser/test_templates.py writes it
anew, and those of the gallery.
"""

from __future__ import annotations

from browser.graph_picture import expect_kept, picture_of_graph
from driver.quick_start import WORKFLOW
from preparation.by_place import ROOT

PICTURE, MOST_BYTES = ROOT / "docs" / "images" / "quick_start.webp", 100_000
STEPS = ("Load Checkpoint", "Your photos", "CoRe Train Embedding", "Your prompt")
"""Titles of the nodes that README's steps name, in their order; the last is what Run is for."""


def test_the_picture_shows_the_graph_as_it_is(editor):
    editor.load_template(WORKFLOW.stem)
    expect_kept(picture_of_graph(editor, STEPS), PICTURE, MOST_BYTES)
