"""The help page of every node, opened in the editor."""

from __future__ import annotations

from pathlib import Path

import pytest

HELP_PAGES = sorted((Path(__file__).resolve().parents[2] / "web" / "docs").glob("*.md"))


@pytest.mark.parametrize("page", HELP_PAGES, ids=lambda page: page.stem)
def test_the_editor_shows_it_beside_the_graph(editor, page):
    title, first_heading, *_ = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    shown = editor.show_help(page.stem)
    for heading in (title, first_heading):
        shown.get_by_role("heading", name=heading.lstrip("# "), exact=True).first.wait_for()
    assert shown.get_by_role("img").count() == page.read_text(encoding="utf-8").count("![")
    assert len(shown.inner_text()) > 500
