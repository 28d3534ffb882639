"""The documentation as a site: built strictly, with every page in its menu and every picture in its place."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from preparation.by_place import ROOT

pytest.importorskip("material")
MENU = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
HTML = ROOT / "build" / "site" / "html"


@pytest.fixture(scope="module")
def site() -> Path:
    command = [sys.executable, str(ROOT / "scripts" / "write_site.py")]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return HTML


class Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs)["src"] or "")


def test_the_menu_has_every_page_of_docs_and_help():
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("web/docs/*.md"), *ROOT.glob("web/docs/*/zh.md")]
    named = re.findall(r"(\S+\.md)$", MENU, flags=re.MULTILINE)
    assert len(set(named)) == len(named)
    assert {page.relative_to(ROOT).as_posix() for page in pages} <= set(named)


def test_every_picture_of_the_site_is_there(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    seen = 0
    for page in pages:
        reader = Pictures()
        reader.feed(page.read_text(encoding="utf-8"))
        for address in reader.found:
            assert (page.parent / unquote(address)).is_file(), f"{page.relative_to(site)}: {address}"
            seen += 1
    assert seen > 80


def test_it_fetches_nothing_from_elsewhere(site):
    start = (site / "index.html").read_text(encoding="utf-8")
    fetched = re.findall(r"<(?:script|img|link)\b[^>]*(?:src|href)=\"?(https?://[^\">]+)", start)
    assert fetched == []
