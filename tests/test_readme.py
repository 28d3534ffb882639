"""The first screens: what README shows, and how soon."""

from __future__ import annotations

import json
import re

import pytest
from preparation.by_place import ROOT
from prose import blocks, pictures, read, sentences, words

README = read(ROOT / "README.md")
GALLERY = read(ROOT / "docs" / "gallery.md")


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(README.splitlines(), 1) if text in line)


def test_it_is_read_in_three_minutes():
    assert sum(len(words(block)) for block in blocks(README)) <= 700


def test_it_shows_before_it_tells_and_installs_at_once():
    assert len(pictures(README)) >= 6
    assert line_of("![") <= 8
    assert line_of("git clone") <= 20


@pytest.mark.parametrize("text", [README, GALLERY], ids=["README", "gallery"])
def test_every_picture_says_in_words_what_it_shows(text):
    assert [address for alt, address in pictures(text) if len(words(alt)) < 3] == []


def test_nine_sentences_of_ten_have_at_most_25_words():
    lengths = sorted(len(words(sentence)) for sentence in sentences(README))
    assert lengths[int(0.9 * len(lengths))] <= 25


def test_the_gallery_shows_every_template():
    shown = {address.rpartition("/")[2].replace("%20", " ") for _, address in pictures(GALLERY)}
    assert shown == {picture.name for picture in (ROOT / "example_workflows").glob("*.jpg")}


def test_the_gallery_leads_to_every_graph():
    graphs = {graph.name for graph in (ROOT / "docs" / "images" / "graphs").glob("*.webp")}
    assert graphs == {
        f"{file.stem}.webp" for file in (ROOT / "example_workflows").glob("*.json") if ".app" not in file.name
    }
    assert set(re.findall(r"<images/graphs/([^>]+)>", GALLERY)) == graphs


def test_inputs_are_called_as_the_editor_calls_them():
    table = README.partition("| Card |")[2].partition("\n\n")[0]
    nodes = json.loads(read(ROOT / "locales" / "en" / "nodeDefs.json"))
    labels = {each["name"] for node in nodes.values() for each in node["inputs"].values()}
    named = set(re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", table))
    assert named and named <= labels


def test_its_figures_are_those_of_the_pages_that_it_links_to():
    """In a file that a table or sentence names; figures of memory in docs/memory.md."""
    measured = "".join(read(ROOT / "docs" / f"{name}.md") for name in ("memory", "results", "speed"))
    shown = "\n".join(blocks(README))
    figures = set(re.findall(r"(?<![\w.])\d?\.\d+(?![\w.])", shown)) - {"1.5", "3.10", "3.14", "0.28"}
    assert len(figures) > 5
    assert [figure for figure in figures if not re.search(rf"(?<![\d.])0?{re.escape(figure)}\b", measured)] == []
