"""The quality benchmark without its trainings: protocol, resuming, judging, table and intervals."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from lab.quality import drawing, records
from lab.quality.bench import MiniWorld
from lab.quality.ceiling import shown
from lab.quality.cells import claim, missing
from lab.quality.judging import SCORES, Scored, judged, keeps_coat, named
from lab.quality.methods import ALL, CEILING, FAST, METHODS
from lab.quality.pipeline import report, score
from lab.quality.protocol import CHOSEN_ON, EVIDENCE, PROTOCOLS, SHORT, SMOKE, Cell, cells, digest
from lab.quality.report import table
from lab.quality.subjects import BIASED, DIVERSE, Thing
from lab.quality.summary import BASELINES, gains, summarized
from lab.quality.training import Trainer
from lab.world.drawing.appearance import COLOURS
from lab.world.drawing.concepts import CONCEPTS, prompt_templates
from lab.world.drawing.render import Scene, render
from lab.world.networks.judge import ATTRIBUTES, Judge

BASELINE = BASELINES[0]
CELL = Cell(METHODS["CoRe"], Thing("striped-cat"), BIASED, 0)
FEW = dataclasses.replace(
    SHORT, name="few", tiers=(("Textual Inversion", BASELINE, "CoRe"), (FAST,)), shown=(BASELINE, FAST), gain_of="CoRe"
)


def a_row(method: str, index: int, right: int, identity: float | None, concept: str = "striped-cat") -> Scored:
    return Scored(method, concept, BIASED, 0, index, 2, right, 1, None, 0, identity, 0.5, 0.5, 0.25)


def a_run(cell: Cell, pictures: int) -> drawing.Run:
    return drawing.Run(
        cell.method.name, cell.concept, cell.references, cell.seed, pictures, 60.0, 30.0, 1.5, 0.1, 0.2, "abc", "a CPU"
    )


def drawn(scenes: list[Scene]) -> torch.Tensor:
    images = [torch.frombuffer(bytearray(render(scene).image.tobytes()), dtype=torch.uint8) for scene in scenes]
    return torch.stack(images).view(-1, 64, 64, 3).movedim(-1, 1) / 255


@pytest.fixture(scope="module")
def perfect() -> torch.Tensor:
    """Pictures that hold all that the prompts name, and the thing with its own coat where it should have it."""
    return drawn([shown(prompt, "striped-cat", seed=1) for prompt in prompt_templates("striped-cat")])


def test_the_evidence_is_of_all_concepts_that_no_setting_was_chosen_on():
    found = list(cells(EVIDENCE))
    assert {cell.references for cell in found} == {BIASED, DIVERSE}
    assert len({cell.concept for cell in found}) == 10 and not set(CHOSEN_ON) & {cell.concept for cell in found}
    assert len({cell.file_name for cell in found}) == len(found)
    for protocol in PROTOCOLS.values():
        assert all(name in ALL for tier in protocol.tiers for name in tier)


def test_a_unet_learns_at_the_rate_that_the_search_found_for_its_method(tmp_path):
    no_host: Any = None
    trainer = Trainer(no_host, EVIDENCE, tmp_path)
    parts = {f"{FAST}, SID captions": 0.5, BASELINE: 0.25, "DreamBooth": 0.5, "Custom Diffusion": 2.5}
    for name, part in parts.items():  # the last has a factor of its own, too
        cell = dataclasses.replace(CELL, method=METHODS[name])
        (stage,) = cell.method.finetunes
        rate = trainer.finetune_settings(cell, stage)["learning_rate"]
        assert rate == pytest.approx(part * EVIDENCE.finetune_rate)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_what_a_protocol_charts_and_shows_is_its_own(protocol):
    own = {name for tier in protocol.tiers for name in tier}
    assert own >= {*protocol.charted}
    assert own & {*protocol.shown}


def test_a_run_that_is_cut_off_leaves_whole_concepts():
    first = [cell for cell in cells(FEW)][: len(FEW.tiers[0]) * len(FEW.concepts)]
    for concept in FEW.concepts:
        assert [cell.method.name for cell in first if cell.concept == concept] == list(FEW.tiers[0])


def test_the_smoke_protocol_runs_every_one_of_its_methods_once():
    assert len(list(cells(SMOKE))) == sum(map(len, SMOKE.tiers))


def test_ablations_change_only_what_they_leave_out():
    full = METHODS["CoRe"].embedding
    for name, term in (("CoRe without L_emb", "embedding"), ("CoRe without L_attn", "attention")):
        left_out = {f"{term}_share": 0.0, f"{term}_weight": 0.0}
        assert METHODS[name].embedding == {**full, **left_out}
        assert METHODS[name].finetunes == METHODS["CoRe"].finetunes


def test_sid_captions_alone_name_what_is_beside_the_subject():
    assert CELL.captions() is None
    cell = Cell(METHODS["CoRe fast, SID captions"], Thing("striped-cat"), BIASED, 0)
    assert cell.captions() == ["a photo of a {} wearing a hat on the beach"] * 4
    painted = dataclasses.replace(cell, references="painting").captions()
    assert painted is not None and painted[0] == "a painting of a {} in the garden"


def test_what_the_references_share_leaks_where_it_is_seen_unasked():
    prompts = prompt_templates("striped-cat")
    painted = drawn([Scene("cat", CONCEPTS["striped-cat"][1], "in the garden", style="painting", seed=3)])
    everywhere = painted.expand(len(prompts), -1, -1, -1)
    for references, leak in (("painting", 1), ("sunglasses", 0), (BIASED, None)):
        cell = dataclasses.replace(CELL, references=references)
        rows = judged(Judge.load(), cell, everywhere)
        asked = {"painting": "a painting", "sunglasses": "sunglasses"}.get(references, "-")
        assert {row.shared_leak for row in rows if asked not in prompts[row.index]} == {leak}
        assert {row.shared_leak for row in rows if asked in prompts[row.index]} <= {None}


def test_done_cells_are_skipped_and_their_pictures_come_back(tmp_path):
    assert missing(MiniWorld(), FEW, tmp_path)[0].label == next(cells(FEW)).label
    pictures = torch.randint(0, 256, (20, 3, 64, 64), generator=torch.Generator().manual_seed(0)) / 255
    drawing.save(tmp_path / "pictures", CELL, pictures, a_run(CELL, 20))
    assert CELL.file_name not in [cell.file_name for cell in missing(MiniWorld(), FEW, tmp_path)]
    assert len(missing(MiniWorld(), FEW, tmp_path)) == len(list(cells(FEW))) - 1
    loaded, run = drawing.load(tmp_path / "pictures", CELL)
    assert torch.equal(loaded, pictures) and run == a_run(CELL, 20)


def test_no_name_of_an_embedding_is_a_number():
    names = [digest(number) for number in range(20_000)]
    assert len(set(names)) == len(names) and all(not is_number(name) for name in names)
    assert any(name.startswith("n") for name in names)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_runs_of_other_settings_are_not_mixed(tmp_path):
    claim(MiniWorld(), FEW, tmp_path)
    claim(MiniWorld(), dataclasses.replace(FEW, concepts=FEW.concepts[:1]), tmp_path)
    with pytest.raises(ValueError, match=r"folder: .* other settings"):
        claim(MiniWorld(), dataclasses.replace(FEW, embedding_steps=41), tmp_path)


SUNGLASSES_AT_NIGHT = "a photo of a {} wearing sunglasses under the night sky"
NAMED = {
    "a photo of a {} wearing a hat in the snow": {"context": "in the snow", "accessory": "hat"},
    "a pencil sketch of a {}": {"style": "pencil sketch"},
    "a painting of a green {} in the desert": {"context": "in the desert", "colour": "green", "style": "painting"},
    SUNGLASSES_AT_NIGHT: {"context": "under the night sky", "accessory": "sunglasses"},
}


@pytest.mark.parametrize("prompt", NAMED)
def test_what_a_prompt_names(prompt):
    assert {name: ATTRIBUTES[name][index] for name, index in named(prompt).items()} == NAMED[prompt]
    assert keeps_coat(prompt) == (not {"style", "colour"} & set(NAMED[prompt]))


def test_every_evaluation_prompt_names_something():
    for concept in CONCEPTS:
        assert all(named(prompt) for prompt in prompt_templates(concept))


def test_the_judge_prefers_the_asked_for_and_the_right_thing(perfect):
    judge, prompts = Judge.load(), prompt_templates("striped-cat")
    right = judged(judge, CELL, perfect)
    other = Scene("cat", CONCEPTS["split-bear"][1], "on the beach", "hat", seed=3)
    stuck = judged(judge, CELL, drawn([other]).expand(len(prompts), -1, -1, -1))

    def mean(rows, name):
        values = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        return sum(values) / len(values)

    for name, margin in (
        ("text_alignment", 0.4),
        ("faithful", 0.8),
        ("identity", 0.3),
        ("non_subject_disentanglement", 0.0),
    ):
        assert mean(right, name) > mean(stuck, name) + margin
    gains = [mean(rows, "subject_alignment") - mean(rows, "bare_subject_alignment") for rows in (right, stuck)]
    assert gains[1] > gains[0] + 0.05, "what is worn counts to SA, not to bare SA"
    for leak in ("hat_leak", "beach_leak"):
        assert mean(stuck, leak) > 0.9 > 0.1 > mean(right, leak)
    assert [row.identity is None for row in right] == [not keeps_coat(prompt) for prompt in prompts]


def test_rows_survive_the_csv_file(tmp_path):
    rows = [a_row("CoRe", 0, 1, None), a_row("CoRe", 1, 2, 0.5)]
    records.write(tmp_path / "rows.csv", Scored, rows)
    assert records.read(tmp_path / "rows.csv", Scored) == rows


def test_differences_are_paired_by_concept_seed_and_prompt():
    rows = [a_row(BASELINE, i, right, 0.5) for i, right in enumerate((0, 1, 2, 1))]
    rows += [a_row("CoRe", i, right, 0.75) for i, right in enumerate((1, 2, 2, 2))]
    rows += [a_row("CoRe", 0, 2, None, concept="split-bear")]  # the baseline has none to compare with
    lines = {line.method: line for line in summarized(rows, list(METHODS))}
    assert lines[BASELINE].differences == {}
    differences = lines["CoRe"].differences[BASELINE]
    difference = differences["text alignment"]
    assert difference.n == 4 and difference.mean == pytest.approx(0.375)
    assert 0 <= difference.low < difference.mean < difference.high <= 0.5
    assert differences["identity"].low == differences["identity"].high == 0.25
    assert lines["CoRe"].pictures == 5 and lines["CoRe"].concepts == 2
    assert "hat leak" not in lines["CoRe"].scores


def test_variants_of_core_are_compared_with_it_too():
    methods = {"TI + frozen word": 0, BASELINE: 0, "CoRe": 1, "CoRe without L_emb": 2}
    rows = [a_row(method, i, right, 0.5) for method, right in methods.items() for i in range(4)]
    lines = {line.method: line for line in summarized(rows, list(METHODS))}
    assert set(lines["TI + frozen word"].differences) == {BASELINE} == set(lines["CoRe"].differences)
    assert lines["CoRe without L_emb"].differences["CoRe"]["text alignment"].mean == 0.5
    assert "Difference from CoRe, same" in table(list(lines.values()), [a_run(CELL, 6)])


def test_concepts_are_ranked_by_what_a_method_gains_on_them():
    right = {"split-bear": (1, 2), "striped-cat": (0, 2), "striped-vase": (2, 0), "checked-owl": (2, None)}
    rows = [
        a_row(method, 0, of[i], 0.5, concept=concept)
        for concept, of in right.items()
        for i, method in enumerate((BASELINE, "CoRe"))
        if of[i] is not None
    ]
    assert gains(rows, "CoRe", BIASED, 0, SCORES["faithful"]) == ["split-bear", "striped-cat", "striped-vase"]
    assert gains(rows, "CoRe", DIVERSE, 0, SCORES["faithful"]) == gains(rows, "", BIASED, 0, SCORES["faithful"]) == []


def test_the_table_says_n_intervals_and_where_it_was_measured():
    rows = [a_row(BASELINE, i, i % 3, 0.5) for i in range(6)] + [a_row("CoRe", i, 2, 0.5) for i in range(6)]
    text = table(summarized(rows, list(METHODS)), [a_run(CELL, 6)])
    assert "| CoRe | 1 | 6 | 1.000 [1.00, 1.00] | 1.000 [1.00, 1.00] | 0.500 [0.50, 0.50] |" in text
    assert "| CoRe | 6 | +0.500 [" in text
    assert "a CPU; commit abc" in text and "1 runs, 6 pictures" in text


def test_the_ceiling_is_the_thing_asked_for_identity_its_share():
    red = shown("a photo of a red {} in the garden", "striped-cat", seed=3)
    assert (red.appearance.first, red.appearance.pattern, red.context) == (COLOURS["red"], None, "in the garden")
    assert shown("a painting of a {}", "striped-cat", seed=3).appearance == CONCEPTS["striped-cat"][1]
    rows = [a_row(method, i, 2, own) for method, own in ((CEILING, 0.8), ("CoRe", 0.6)) for i in range(4)]
    text = table(summarized(rows, list(METHODS)), [a_run(CELL, 4)])
    assert "share of the thing's own (0.800, drawn and put through the VAE): CoRe 0.750." in text


def test_scores_table_chart_and_picture_come_from_what_is_there(tmp_path, perfect):
    folder, results, images = tmp_path / "work", tmp_path / "results", tmp_path / "images"
    protocol = dataclasses.replace(FEW, concepts=("striped-cat",))
    for method in (name for tier in protocol.tiers for name in tier):
        cell = Cell(METHODS[method], Thing("striped-cat"), BIASED, 0)
        drawing.save(folder / "pictures", cell, perfect, a_run(cell, 20))
    score(MiniWorld(), protocol, folder, results)
    report(MiniWorld(), protocol, folder, results, images)
    assert "Textual Inversion | 1 | 20 |" in (results / "few.md").read_text("utf-8")
    drawn = {f"quality_few{what}.webp" for what in ("", "_pictures", "_first")}
    assert {file.name for file in images.iterdir()} == drawn


def test_rows_that_another_machine_made_stay_beside_new_ones(tmp_path, perfect):
    results = tmp_path / "results"
    cells = [Cell(METHODS[name], Thing("striped-cat"), BIASED, 0) for name in FEW.tiers[0]]
    for number, cell in enumerate(cells):
        drawing.save(tmp_path / f"machine {number}" / "pictures", cell, perfect, a_run(cell, 20))
        score(MiniWorld(), FEW, tmp_path / f"machine {number}", results)
    expected = [cell.method.name for cell in cells]
    assert [run.method for run in records.read(results / "few_runs.csv", drawing.Run)] == expected
    rows = records.read(results / "few_pictures.csv.gz", Scored)
    assert [row.method for row in rows] == [name for name in expected for _ in range(20)]
