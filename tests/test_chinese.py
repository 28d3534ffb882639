"""The pack in Simplified Chinese: every help page, and every text of the templates."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from preparation.by_place import ROOT
from templates.chinese import NOTES, TEXTS, known_texts, texts

DOCS = ROOT / "web" / "docs"
ENGLISH = sorted(DOCS.glob("*.md"))
CHINESE = sorted(DOCS.glob("*/zh.md"))
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
LABELS = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
HAN = re.compile(r"[\u4e00-\u9fff]")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def translation(page: Path) -> Path:
    """Where the editor looks first when its language is Chinese."""
    return DOCS / page.stem / "zh.md"


def outline(text: str) -> list[tuple[str, list[int]]]:
    """Per heading its level, and how many cells each row of the tables below it has."""
    found: list[tuple[str, list[int]]] = []
    for line in text.splitlines():
        if line.startswith("#"):
            found.append((line.split(" ")[0], []))
        elif line.startswith("|"):
            found[-1][1].append(line.count("|"))
    return found


def rows(text: str, part: str) -> list[tuple[list[str], str]]:
    """Of the tables below a heading: the names in each first cell, and the second cell."""
    below = text.partition(f"\n## {part}\n")[2].partition("\n## ")[0]
    cells = [line.split("|") for line in below.splitlines() if line.startswith("| `")]
    return [(re.findall(r"`([^`]+)`", first), second.strip()) for _, first, second, *_ in cells]


def figures(text: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)


def test_every_help_page_has_a_chinese_one_and_none_is_left_over():
    assert [page.parent.name for page in CHINESE] == [page.stem for page in ENGLISH]


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)
def test_a_chinese_page_has_the_headings_tables_and_figures_of_the_english_one(page):
    english, chinese = read(page), read(translation(page))
    assert outline(chinese) == outline(english)
    assert figures(chinese) == figures(english)  # The editor takes paths from web/docs, whatever the language.
    untranslated = [line for line in chinese.splitlines() if line.startswith("#") and not HAN.search(line)]
    assert untranslated == []
    assert len(HAN.findall(chinese)) > 0.1 * len(english)


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)
def test_a_chinese_page_names_inputs_and_outputs_as_the_editor_does(page):
    english, chinese, labels = read(page), read(translation(page)), LABELS[page.stem]
    for part, part_here in {"Inputs": "输入", "Outputs": "输出"}.items():
        assert [names for names, _ in rows(chinese, part_here)] == [names for names, _ in rows(english, part)]
    inputs = [(names, said) for names, said in rows(chinese, "输入") if names[0] in labels["inputs"]]
    assert inputs
    for names, said in inputs:
        assert said.startswith(f"*{'、'.join(labels['inputs'][name]['name'] for name in names)}。*"), names
    said = [second for _, second in rows(chinese, "输出")]
    assert len(said) == len(labels["outputs"])
    for text, output in zip(said, labels["outputs"].values(), strict=True):
        assert text.startswith(f"*{output['name']}。*"), text
    assert re.match(r"# (.+)\n", chinese)[1] == labels["display_name"]


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)
def test_a_chinese_page_has_the_messages_and_addresses_of_the_english_one(page):
    english, chinese = read(page), read(translation(page))
    messages = [names for names, _ in rows(english, "Failures and remedies")]
    assert [names for names, _ in rows(chinese, "故障与处理")] == messages
    addresses = [sorted(re.findall(r"\]\((https:[^)]+)\)", text)) for text in (english, chinese)]
    assert addresses[0] == addresses[1]


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.parent.name)
def test_links_to_other_pages_lead_somewhere(page):
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", read(page)):
        file, _, heading = target.partition("#")
        if not file.startswith("https:"):
            headings = re.findall(r"^#+ (.+)$", read(page.parent / file), flags=re.MULTILINE)
            assert heading in headings, target


def is_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN"


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.parent.name)
def test_emphasis_ends_where_markdown_sees_it(page):
    """Stars between punctuation and a word are no emphasis, and Chinese has no spaces that would part them."""
    for line in read(page).splitlines():
        shown = f" {re.sub(r'`[^`]*`', 'x', line)} "
        for found in re.finditer(r"(\*\*?)(?=\S)(.+?)(?<=\S)\1", shown):
            before, after = shown[found.start() - 1], shown[found.end()]
            assert is_word(found[2][0]) or not is_word(before), found[0]
            assert is_word(found[2][-1]) or not is_word(after), found[0]


def translations(workflow: dict[str, Any]) -> dict[str, str]:
    return workflow["extra"]["core_personalization"]["texts"]["zh"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_template_brings_its_groups_titles_and_notes_in_chinese(path):
    workflow = json.loads(read(path))
    assert set(translations(workflow)) == set(texts(workflow))
    assert [text for text in translations(workflow).values() if not HAN.search(text)] == []
    assert translations(workflow) == {text: known_texts()[text] for text in texts(workflow)}


def test_no_translation_of_the_templates_is_left_over():
    shown = {text for path in WORKFLOWS for text in texts(json.loads(read(path)))}
    assert set(TEXTS) <= shown <= set(known_texts())


@pytest.mark.parametrize(("note", "chinese"), NOTES.items(), ids=lambda text: text[:30])
def test_a_note_keeps_names_and_numbers(note, chinese):
    for pattern in (r"`[^`]+`", r"\d+"):
        assert sorted(re.findall(pattern, chinese)) == sorted(re.findall(pattern, note))
