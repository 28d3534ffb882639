"""The help page of every node, opened in the editor."""

from __future__ import annotations

from pathlib import Path

import pytest

HELP_PAGES = sorted((Path(__file__).resolve().parents[2] / "web" / "docs").glob("*.md"))


@pytest.mark.parametrize("page", HELP_PAGES, ids=lambda page: page.stem)
def test_the_editor_shows_it_beside_the_graph(editor, page):
    title, first_heading, *_ = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    editor.load({"nodes": [{"id": 1, "type": page.stem, "pos": [200, 100]}], "links": [], "version": 0.4})
    editor.evaluate("() => app.canvas.selectNode(app.graph.getNodeById(1))")
    editor.page.get_by_test_id("info-button").click()
    for heading in (title, first_heading):
        editor.page.get_by_role("heading", name=heading.lstrip("# "), exact=True).first.wait_for()
    pictures = "() => [...document.querySelectorAll('.node-help-content img')].map((image) => image.naturalWidth)"
    editor.page.wait_for_function(f"() => ({pictures})().every((width) => width > 200)")
    assert len(editor.evaluate(pictures)) == page.read_text(encoding="utf-8").count("![")
    text = editor.page.locator(".node-help-content").first.inner_text()
    assert len(text) > 500
