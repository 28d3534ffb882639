"""The editor in Chinese: a template's titles, groups and note, and the help pages with their pictures."""

from __future__ import annotations

import json

import pytest
from driver.quick_start import TEMPLATES, WORKFLOW
from preparation.by_place import ROOT

HELP_PAGES = sorted((ROOT / "web" / "docs").glob("*/zh.md"))
NAMES = sorted(file.stem for file in TEMPLATES.glob("*.json"))
# What a graph says to its reader, and whatever else stands in its fields.
_TEXTS = """() => {
    const all = (graph) => graph.nodes.flatMap((node) => [node, ...(node.subgraph ? all(node.subgraph) : [])]);
    const notes = app.graph.nodes.filter((node) => node.type === 'MarkdownNote');
    const others = app.graph.nodes.filter((node) => node.type !== 'MarkdownNote');
    return {
        groups: app.graph.groups.map((group) => group.title),
        titles: all(app.graph).map((node) => node.title),
        fields: app.graph.nodes.flatMap((node) => (node.inputs ?? []).map((field) => field.label)),
        notes: notes.map((node) => node.widgets[0].value),
        values: others.map((node) => (node.widgets ?? []).filter(({name}) => !name.startsWith('$$'))
            .map((widget) => [widget.name, widget.value])),
    };
}"""


def workflow(name: str):
    return json.loads((TEMPLATES / f"{name}.json").read_text(encoding="utf-8"))


def texts(graph) -> dict[str, str]:
    return graph["extra"]["core_personalization"]["texts"]["zh"]


# First, before the language changes.
def test_in_english_a_template_is_what_its_file_says(editor):
    editor.load_template(WORKFLOW.stem)
    shown, file = editor.evaluate(_TEXTS), workflow(WORKFLOW.stem)
    assert shown["groups"] == [group["title"] for group in file["groups"]]
    assert {node["title"] for node in file["nodes"] if "title" in node} <= set(shown["titles"])
    assert shown["notes"] == [node["widgets_values"][0] for node in file["nodes"] if node["type"] == "MarkdownNote"]


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_in_chinese_with_its_values_as_they_are(in_chinese, editor, name):
    bare = workflow(name)
    del bare["extra"]["core_personalization"]
    editor.load(bare)
    values = editor.evaluate(_TEXTS)["values"]
    editor.load_template(name)
    shown, chinese = editor.evaluate(_TEXTS), texts(workflow(name))
    assert shown["values"] == values
    assert [text for text in shown["groups"] + shown["notes"] if text not in chinese.values()] == []
    assert set(chinese.values()) <= {text for kind in ("groups", "titles", "fields", "notes") for text in shown[kind]}
    assert editor.errors == [] and editor.complaints() == []


def test_what_a_reader_has_changed_stays(in_chinese, editor):
    changed = workflow(WORKFLOW.stem)
    changed["groups"][0]["title"] = "Mine"
    note = next(node for node in changed["nodes"] if node["type"] == "MarkdownNote")
    note["widgets_values"] = ["My note"]
    editor.load(changed)
    shown, chinese = editor.evaluate(_TEXTS), texts(changed)
    assert (shown["groups"][0], shown["notes"]) == ("Mine", ["My note"])
    assert shown["groups"][1] in chinese.values()


@pytest.mark.parametrize("page", HELP_PAGES, ids=lambda page: page.parent.name)
def test_a_help_page_is_shown_in_chinese_with_its_pictures(in_chinese, editor, page):
    title, first_heading, *_ = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    shown = editor.show_help(page.parent.name)
    for heading in (title, first_heading):
        shown.get_by_role("heading", name=heading.lstrip("# "), exact=True).first.wait_for()
    assert shown.get_by_role("img").count() == page.read_text(encoding="utf-8").count("![")
    assert "**" not in shown.inner_text()
