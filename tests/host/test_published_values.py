"""Published values stand once, in the records of methods and presets: the help pages say the same."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from core_personalization.core_ops.terms import PUBLISHED_WEIGHTS
from core_personalization.nodes.embedding.methods import ATTNDREAMBOOTH, CORE, METHODS
from preparation.by_place import ROOT

HELP = ROOT / "web" / "docs"


def table(page: str, header: str) -> dict[str, list[str]]:
    """Rows of the help page's table whose header begins so, by what stands in their first column."""
    lines = (HELP / f"{page}.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name.strip("`")] = cells
    return rows


def test_the_presets_of_the_help_page_are_those_of_the_node():
    from core_personalization.nodes.finetune.presets import PRESETS

    rows = table("CoReUNetIdentityFinetune", "`preset`")
    assert list(rows) == list(PRESETS)
    for name, values in PRESETS.items():
        scope, form, steps, batch_size, rate, also, _ = rows[name]
        assert values["scope"].startswith(scope) and values["form"] == form
        assert (int(steps), int(batch_size), float(rate)) == (
            values["steps"], values["batch_size"], values["learning_rate"],
        )  # fmt: skip
        assert values.get("train_embedding", False) == ("`train_embedding`" in also)
        semantic = re.search(r"semantic weight ([\d.]+)", also)
        assert float(semantic.group(1) if semantic else 0) == values.get("semantic_weight", 0.0)
        alignment = re.search(r"mean ([\d.]+), variance ([\d.]+)", also)
        weights = [float(number) for number in alignment.groups()] if alignment else [0.0, 0.0]
        assert weights == [values.get("alignment_mean", 0.0), values.get("alignment_variance", 0.0)]


def test_the_methods_of_the_help_page_are_those_of_the_node():
    rows = table("CoReTrainEmbedding", "`method` | What it minimises")
    assert list(rows) == list(METHODS)
    for name, method in METHODS.items():
        _, attention, read = rows[name]
        assert attention == method.attention
        assert read == ("`embedding:NAME dog`" if method.writes_category else "`embedding:NAME`")
    page = " ".join((HELP / "CoReTrainEmbedding.md").read_text(encoding="utf-8").split())
    core, stage_1 = METHODS[CORE].published, METHODS[ATTNDREAMBOOTH].published
    assert f"CoRe ({core['steps']}, {core['batch_size']}, {core['learning_rate']}, none)" in page
    assert (
        f"AttnDreamBooth ({stage_1['steps']}, {stage_1['batch_size']}, {stage_1['learning_rate']:g}; "
        f"{stage_1['augmentation']} changed copies"
    ) in page


@pytest.mark.parametrize("page", ["CoReTrainEmbedding", "CoReTestTimeOptimize"])
def test_the_weights_of_the_help_pages_are_the_published_ones(page):
    lines = (HELP / f"{page}.md").read_text(encoding="utf-8").splitlines()
    for term, weight in PUBLISHED_WEIGHTS.items():
        (row,) = (line for line in lines if line.startswith(f"| `{term.removeprefix('context_')}_weight` |"))
        assert f"Paper: {weight}" in row


def test_the_inputs_of_a_method_are_inputs_of_the_node():
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings

    names = {field.name for field in fields(EmbeddingSettings)}
    for method in METHODS.values():
        assert {*method.inputs, *method.published} <= names
        assert ("prompt_set" in method.inputs) == method.draws_prompts


def test_the_check_on_a_card_trains_with_every_method():
    from core_personalization.nodes.embedding.methods import METHODS

    from lab.gpu.trainings import EMBEDDING_METHODS

    assert tuple(METHODS) == EMBEDDING_METHODS
