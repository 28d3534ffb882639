"""What "Personalization Scorecard" hands on: files, table, notes, and scorecards to compare."""

from __future__ import annotations

import csv
import json

import pytest
from families.scoring import EACH_PROMPT, IDENTITY_SCORES, MASKS, STYLED, card_of, execute, overall

pytestmark = pytest.mark.usefixtures("undrawn")


def test_files_are_written_and_never_over_others_unasked(vision_models, scorecards):
    first = execute(vision_models, **MASKS, scorecard_name="mine")
    assert first["csv_file"] == str(scorecards / "mine.csv")
    assert (scorecards / "mine.json").read_text(encoding="utf-8") == first["scores"]
    with open(first["csv_file"], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    means = {row["score"]: float(row["mean"]) for row in rows if not row["prompt"]}
    assert means == pytest.approx(overall(first), abs=1e-6)
    assert {row["prompt"] for row in rows} == {"", *EACH_PROMPT}
    kept = {file.name: file.read_bytes() for file in scorecards.iterdir()}
    second = execute(vision_models, **MASKS, scorecard_name="mine", seed=5)
    assert second["csv_file"] == str(scorecards / "mine-2.csv")
    assert all((scorecards / name).read_bytes() == content for name, content in kept.items())
    third = execute(vision_models, **MASKS, scorecard_name="mine", seed=6, overwrite=True)
    assert third["csv_file"] == first["csv_file"]
    assert (scorecards / "mine.csv").read_bytes() != kept["mine.csv"]


def test_the_table_shows_every_score_and_prompt(vision_models):
    outputs = execute(vision_models, **MASKS, scorecard_name="mine")
    for title in ("CLIP-T", "Text alignment", "CLIP-I", "DINO", "SA", "NSD"):
        assert f"| {title} |" in outputs["table"]
    assert all(f"| {prompt} |" in outputs["table"] for prompt in EACH_PROMPT)
    styled = next(line for line in outputs["table"].splitlines() if line.startswith(f"| {STYLED}"))
    assert styled.count("–") == len(IDENTITY_SCORES)


def test_a_long_prompt_is_cut_and_the_card_says_so(vision_models):
    card = card_of(execute(vision_models, prompts=["a cat " * 60]))
    assert any("beginning of 1 prompts" in note for note in card["notes"])


def test_empty_generated_masks_are_counted(vision_models):
    masks = [MASKS["generated_masks"][0] * 0, *MASKS["generated_masks"][1:]]
    card = card_of(execute(vision_models, reference_masks=MASKS["reference_masks"], generated_masks=masks))
    assert any("1 generated masks are empty" in note for note in card["notes"])


def test_what_can_be_scored_without_dino_or_masks_is_scored(vision_models):
    assert list(overall(execute(vision_models, dino_model=""))) == ["clip_t", "text_alignment", "clip_i"]
    card = card_of(execute(vision_models, prompts=[STYLED], **MASKS))
    assert list(card["scores"]) == ["clip_t", "text_alignment"]
    assert any("No prompt is left" in note for note in card["notes"])


def test_scorecards_gather_along_a_chain(vision_models):
    first = execute(vision_models, scorecard_name="first")
    second = execute(vision_models, scorecard_name="second", compare_with=[first["scores"]], seed=1)
    third = execute(vision_models, scorecard_name="third", compare_with=[first["scores"], second["scores"]], seed=2)
    cards = json.loads(third["scores"])["scorecards"]
    assert [card["name"] for card in cards] == ["first", "second", "third"]
    assert cards[0] == card_of(first)


def test_scores_of_other_models_are_not_compared(vision_models):
    first = execute(vision_models, scorecard_name="first")
    with pytest.raises(ValueError, match=r"compare_with: 'first' was scored with dino_model 'dino'.*'dinov2'"):
        execute(vision_models, dino_model=vision_models["dinov2"], compare_with=[first["scores"]])
