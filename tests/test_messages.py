"""What the nodes say, in Chinese: every sentence that the pack's Python can show has its entry in the catalogue.

A sentence is found where it stands, in an f-string or a text: its values become {0}, {1} … in the order of the code.
editor/messages.js puts the Chinese in its place; tests/browser/test_messages.py tries that.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from preparation.by_place import ROOT

CATALOGUE: dict[str, str] = json.loads((ROOT / "locales" / "zh" / "messages.json").read_text(encoding="utf-8"))
INPUTS = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
FILES = sorted(file for folder in ("nodes", "core_ops") for file in (ROOT / folder).rglob("*.py"))
IN_SCHEMAS = {"help", "tooltip", "description", "display_name", "search_aliases", "label"}
"""Arguments that become locales/zh/nodeDefs.json."""
ELSEWHERE = {
    "core_ops/captured_attention.py": "patterns of einops",
    "core_ops/prompts/concept_words.py": "examples in prompts",
    "core_ops/scores/prompt_texts.py": "words of prompts",
    "nodes/captions/wording/clauses.py": "words of captions",
    "nodes/captions/wording/form.py": "questions to a model",
    "nodes/captions/wording/subject.py": "words of captions",
    "nodes/captions/wording/vocabulary.py": "words of captions",
    "nodes/evaluation/score_charts.py": "drawn, with matplotlib's font, which has no Chinese",
    "nodes/evaluation/score_notes.py": "in the table, an output",
    "nodes/evaluation/score_report.py": "in the table, an output",
    "nodes/insight/attention_pages.py": "drawn",
    "nodes/insight/context_similarity.py": "drawn",
    "nodes/labels.py": "in locales/zh/nodeDefs.json",
    "nodes/refinement/refinement_report.py": "in the report, an output",
    "nodes/tables.py": "in tables, outputs",
    "nodes/training/loss_chart.py": "drawn",
    "nodes/votes/vote_report.py": "in the table and the chart, outputs",
}
"""Files whose texts, but for what they raise, are not shown on nodes, and what they are."""
NOT_SAID = {
    "options, which are what a workflow saves": {
        "XTI (P+)", "Case 1: class only", "Case 2: classes of everything", "Case 3: selectively informative (SID)",
        "Case 4: everything described", "AttnDreamBooth stage 1", "CoRe (reference code)", "Textual Inversion",
        "CoRe + DTI", "CoRe fast", "Cross Initialization", "Directional Textual Inversion", "TI + ViCo's regularizer",
        "CoRe stage 2", "CoRe stage 2 (reference code)", "DreamBooth LoRA", "DreamBooth with text encoder",
        "AttnDreamBooth stage 2", "AttnDreamBooth stage 3",
        "AttnDreamBooth stage 3 (fast)", "TI + DreamBooth", "Custom Diffusion", "as trained", "whole U-Net",
        "whole U-Net and LoRA", "attention layers", "cross-attention layers", "keys and values of cross-attention",
        "full weights", "singular values", "all words", "each word", "reference code", "go on where it stopped",
        "AdamW 8-bit", "complex animate", "complex inanimate", "own numbers",
    },
    "made into tooltips": {
        "CoRe regularizes the words around the concept (default).", "of the words around the concept",
        "AttnDreamBooth stage 1 learns an embedding that stands before the super-category.",
        "of the concept and its super-category",
        "Textual Inversion is the baseline without regularization.", "of the concept and end-of-text",
        "Cross Initialization starts from the text encoder's output for the words, and stays near it.",
        "Directional Textual Inversion learns the direction alone: it cannot grow louder than other words.",
        "ViCo's regularizer lets the concept look where end-of-text looks.",
        "XTI learns vectors of their own for each layer of the U-Net; Apply Concept draws them.",
        "NeTI learns a small network that gives them by layer and timestep; Apply Concept draws it.",
        "A folder of photos within ComfyUI's input folder; press r to refresh the list. Captions and masks are found "
        "by name: cat.jpg, cat.txt, cat.mask.png. Folders in it such as 3_portraits and 1_others say how often their "
        "pictures are drawn.",
        "Side in pixels that it was trained at: for Empty Latent Image's width and height.",
    },
    "search words": {
        "textual inversion", "train embedding", "train my face", "train my dog", "learn person", "train lora",
        "lora training", "custom diffusion",
    },
    "prompts": {
        "a photo of a {}", "a photo of a {0}", "a photo of a dog", "a {} in the snow", "a {} on the beach",
        "a painting of a {}", "a photo of a {} in the jungle", "a photo of a {} and a {2}",
        "a photo of a {}, a {2} and a {3}",
    },
    "in files": {
        "core-personalization scorecards 1", "core-personalization vote key 1",
        "Write {0} in a prompt where the concept goes.",
    },
    "in tables and pictures": {
        "Text alignment", "(other tokens)", "picture {0}", "Share of attention, “{0}”", "(start of text)",
        "(end and padding)", "(end of text)", "□ fit = keep", "□ crop", "{0} · head {1}", "… and {0} more",
    },
}  # fmt: skip


def template(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    parts, places = [], iter(range(100))
    for part in node.values:
        parts.append(str(part.value) if isinstance(part, ast.Constant) else f"{{{next(places)}}}")
    return "".join(parts)


def texts(tree: ast.AST) -> Iterator[str]:
    """All but docstrings, what goes into schemas and logs, and parts of an f-string, which come with it."""
    passed_over: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed_over.add(node.value)
        if (isinstance(node, ast.keyword) and node.arg in IN_SCHEMAS) or is_log_or_schema(node):
            passed_over.update(ast.walk(node))
        if isinstance(node, ast.JoinedStr):
            passed_over.update(part for part in node.values if isinstance(part, ast.Constant))
            formats = (part.format_spec for part in node.values if isinstance(part, ast.FormattedValue))
            passed_over.update(part for found in formats if found for part in ast.walk(found))
    for node in ast.walk(tree):
        if node not in passed_over and (isinstance(node, ast.JoinedStr) or is_text(node)):
            yield template(node)  # type: ignore[arg-type]


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_log_or_schema(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and bool(re.match(r"logger\.|io\.Schema$", ast.unparse(node.func)))


def own_words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]{3,}", re.sub(r"\{\d*\}", "", text))


def is_sentence(text: str) -> bool:
    """Words for a reader, more than a separator; no pattern of re or einops."""
    return " " in text and bool(own_words(text)) and not re.search(r"^,? (?:and|or) $|^\^|\\|\||->", text)


def said(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    raised = (text for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc for text in texts(node.exc))
    found = set(filter(is_sentence, raised))
    if file.relative_to(ROOT).as_posix() not in ELSEWHERE:
        found |= set(filter(is_sentence, texts(tree)))
    return found - set().union(*NOT_SAID.values())


def everything() -> set[str]:
    """All texts, also those of one word, and names of arguments, which are shown with spaces."""
    found: set[str] = set()
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found.update(texts(tree))
        found.update(node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg)
    return found | {text.replace("_", " ") for text in found if text.isidentifier()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_every_sentence_has_its_chinese(file):
    missing = said(file) - CATALOGUE.keys()
    assert not missing, "write their Chinese in locales/zh/messages.json"


def test_no_entry_and_no_exception_is_left_over():
    there = everything()
    assert CATALOGUE.keys() - there == set()
    assert set().union(*NOT_SAID.values()) - there == set()
    assert [name for name in ELSEWHERE if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("english", CATALOGUE, ids=lambda text: text[:40])
def test_an_entry_keeps_places_input_names_and_numbers(english):
    chinese = CATALOGUE[english]
    assert chinese.strip() == chinese != ""
    assert Counter(re.findall(r"\{\d*\}", chinese)) == Counter(re.findall(r"\{\d*\}", english))
    begins = r"^(?:\{0\}|[a-z_]+): "  # The editor shows the label of the input that stands there.
    assert re.findall(begins, chinese) == re.findall(begins, english)
    kept = r"\d+|--[\w-]+|(?<!\w)'[^']+'(?!\w)"
    assert set(re.findall(kept, english)) <= set(re.findall(kept, chinese))


def test_a_sentence_names_only_inputs_that_there_are():
    known = {name for node in INPUTS.values() for name in node["inputs"]} | {"save_pretrained", "weight_dtype"}
    for chinese in CATALOGUE.values():
        named = set(re.findall(r"\b[a-z]+(?:_[a-z\d]+)+\b", chinese)) - {"compute_from_stored"}
        assert named <= known, chinese


def test_no_two_sentences_have_the_same_chinese():
    """Or a reader, and a search, could not tell them apart."""
    assert [text for text, count in Counter(CATALOGUE.values()).items() if count > 1] == []
