"""What users read: the glossary's words, short sentences, and no mistake that a checker of spelling or style finds.

The glossary is the table "Words" of CONTRIBUTING.md: what is said, what it means, and what is not said in its place.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from preparation.by_place import ROOT
from prose import blocks, read, sentences, words
from proselint.checks import __register__
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "web" / "docs").glob("*.md")),
]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
LOCALES = ROOT / "locales"
MOST_WORDS = 30
NOT_ALONE = (
    r"\b(?:likewise|doing so)\b|\b(?:name|rank|weights|inputs|share|prompt) (?:above|below)\b|^The same\b|^Those\b"
)
"""What leans on another tooltip."""


def flat(texts: dict) -> Iterator[str]:
    for value in texts.values():
        yield from flat(value) if isinstance(value, dict) else [value]


def shown_by_nodes() -> dict[str, list[str]]:
    """Labels and tooltips, and what nodes say; names of inputs are X."""
    nodes, main = (json.loads(read(LOCALES / "en" / f"{name}.json")) for name in ("nodeDefs", "main"))
    inputs = {name for node in nodes.values() for name in node["inputs"] if "_" in name}
    names = re.compile(rf"\b(?:images|{'|'.join(sorted(inputs))})\b")
    found = {
        "labels and tooltips": list(dict.fromkeys(flat(nodes | main))),
        "messages": list(json.loads(read(LOCALES / "zh" / "messages.json"))),
    }
    return {kind: [names.sub("X", text) for text in texts] for kind, texts in found.items()}


TEXTS = {page.relative_to(ROOT).as_posix(): list(blocks(read(page), code="X", alt=True)) for page in PAGES}
TEXTS |= shown_by_nodes()


def glossary() -> list[tuple[str, re.Pattern[str], list[str]]]:
    """Of each row the word, what is not said in its place, and phrases in which that is right."""
    table = read(CONTRIBUTING).partition("\n## Words\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if "`" in line and line[0] == "|"
    ]
    found = []
    for word, _, banned, right in rows:
        forms = "|".join(f"(?i:{form[0]}){re.escape(form[1:])}" for form in re.findall(r"`([^`]+)`", banned))
        found.append((word, re.compile(rf"(?<![\w-])(?:{forms})(?![\w-])"), re.findall(r"`([^`]+)`", right)))
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_it_speaks_as_the_glossary_does(name):
    rows = glossary()
    assert len(rows) > 5
    wrong = []
    for text in TEXTS[name]:
        for word, banned, right in rows:
            left = text
            for phrase in right:
                left = left.replace(phrase, "")
            wrong += [f"{found[0]!r}, for {word}: {text[:200]}" for found in banned.finditer(left)]
    assert wrong == []


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=lambda page: page.stem)
def test_its_sentences_are_short(page):
    assert [sentence for sentence in sentences(read(page)) if len(words(sentence)) > MOST_WORDS] == []


@pytest.mark.parametrize("name", shown_by_nodes())
def test_what_nodes_say_is_in_short_sentences(name):
    said = (sentence for text in TEXTS[name] for sentence in sentences(text.replace("*", "")))
    assert [sentence for sentence in said if len(words(sentence)) > MOST_WORDS] == []


def test_every_tooltip_stands_alone():
    assert [text for text in TEXTS["labels and tooltips"] if re.search(NOT_ALONE, text)] == []


def test_a_line_of_the_changelog_says_one_thing():
    """One sentence, and a second one at most to point elsewhere."""
    entries = re.findall(r"^- (.+(?:\n  .+)*)", read(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)
    assert len(entries) > 50
    assert [entry for entry in entries if len(words(next(blocks(entry), ""))) > 25] == []


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything as plain text, a file for each page."""
    folder = tmp_path_factory.mktemp("prose")
    for name, texts in (TEXTS | {"CONTRIBUTING.md": list(blocks(read(CONTRIBUTING), code="X"))}).items():
        (folder / name.replace("/", "-")).write_text("\n\n".join(texts), encoding="utf-8")
    return folder


def test_it_is_spelled_right(shown):
    command = [sys.executable, "-m", "codespell_lib", "--toml", str(ROOT / "pyproject.toml"), str(shown)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.fixture(scope="module")
def checks() -> dict[str, bool]:
    """Clichés, needless words, words written twice or for another; not quotation marks, which people type straight."""
    CheckRegistry().register_many(__register__)
    return {**DEFAULT["checks"], "typography": False}


@pytest.mark.parametrize("name", TEXTS)
def test_it_has_no_mistake_of_style(checks, name):
    codes = itertools.cycle(("Xa", "Xb", "Xc"))
    between = "\n\n~\n\n"  # Else a text's end and the next one's start may be a word written twice; so X, X.
    text = re.sub(r"\bX\b|\{\d*\}|\d*\.?\d+", lambda _: next(codes), between.join(TEXTS[name]))
    found = LintFile(name, text).lint({"max_errors": 100, "checks": checks})
    assert [(result.check_result.message, text[slice(*result.check_result.span)]) for result in found] == []
