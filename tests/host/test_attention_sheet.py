"""The node Attention Sheet: rows of several probes, words in columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families.probing import Loaded, Sampling, encode, load, probed, sample
from torch import Tensor

PROMPTS = {"dog": "a dog in the desert", "puppy": "a puppy in the desert", "long": "a small brown dog in a desert"}
BATCH = 2


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load("sd1")


@pytest.fixture(scope="module")
def sampled(loaded) -> dict[str, dict[str, Any]]:
    """By name the sockets of a probe that has seen a sampling."""
    found = {}
    for name, prompt in PROMPTS.items():
        model, probe = probed(loaded, prompt=prompt)
        samples = sample(loaded, model, Sampling(batch=BATCH), encode(loaded, prompt))
        pictures = torch.rand(BATCH, 64, 96, 3, generator=torch.Generator().manual_seed(1))
        found[name] = {"probe": probe, "latent": {"samples": samples}, "images": pictures}
    return found


def sheet(sockets: dict[str, Any], above: Any = None, **inputs: Any) -> tuple[Tensor, Any, str]:
    from core_personalization.nodes.insight.attention_sheet import AttentionSheet

    with torch.inference_mode():
        return AttentionSheet.execute(above=above, **sockets, **inputs).args


def rows_of(table: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return [lines[0], *lines[2:]]


def stacked(sampled, *names: str, **inputs: Any) -> tuple[Tensor, Any, str]:
    above, found = None, None
    for name in names:
        found = sheet(sampled[name], above, row_name=name, **inputs)
        above = found[1]
    assert found is not None
    return found


def test_words_stand_below_each_other_with_their_shares(sampled):
    _, rows, table = stacked(sampled, "dog", "puppy", "long")
    header, *lines = rows_of(table)
    assert header == ["", "a", "small", "brown", "dog / puppy", "in", "the / a (2)", "desert"]
    assert [line[0] for line in lines] == ["dog", "puppy", "long"]
    assert [line[2] for line in lines[:2]] == ["", ""]
    for line, (name, row) in zip(lines, zip(PROMPTS, rows, strict=True), strict=True):
        captured = sampled[name]["probe"].captured(sampled[name]["latent"]["samples"])
        (desert,) = (number for number, word in enumerate(captured.words) if word.label == "desert")
        assert float(line[-1]) == pytest.approx(float(captured.shares()[0, desert]), abs=1e-4)
        assert torch.equal(row.maps[-1], captured.maps()[0, desert].mean(dim=0))


def test_another_picture_of_the_batch_and_the_prompt_as_name(sampled):
    captured = sampled["dog"]["probe"].captured(sampled["dog"]["latent"]["samples"])
    _, rows, table = sheet(sampled["dog"], picture=2)
    assert torch.equal(rows[0].maps, captured.maps()[1, 1:-1].mean(dim=1))
    assert rows_of(table)[1][0] == PROMPTS["dog"]


def test_a_column_is_compared_over_its_rows(sampled):
    from core_personalization.nodes.insight.sheet_rows import Sheet

    _, rows, _ = stacked(sampled, "dog", "puppy")
    found = Sheet.of(rows, ["desert", "in"])
    each = found.heats("each word")
    peaks = [max(float(row[column].max()) for row in each) for column in range(2)]
    assert peaks == pytest.approx([1, 1])
    together = found.heats("all words")
    assert max(float(heat.max()) for row in together for heat in row) == pytest.approx(1)
    ratio = float(rows[0].maps[-1].max() / rows[1].maps[-1].max())
    assert float(each[0][1].max() / each[1][1].max()) == pytest.approx(ratio, rel=1e-4)


def test_the_sheet_grows_with_rows_words_and_pictures(sampled):
    one, three = stacked(sampled, "dog")[0], stacked(sampled, "dog", "puppy", "long")[0]
    assert one.shape[0] == 1 and three.shape[1] > 2 * one.shape[1] and three.shape[2] > one.shape[2]
    without = {name: value for name, value in sampled["dog"].items() if name != "images"}
    assert sheet(without)[0].shape[2] < one.shape[2]
    few = sheet(sampled["puppy"], stacked(sampled, "dog")[1], words="puppy, desert")
    assert rows_of(few[2])[0] == ["", "dog / puppy", "desert"]
    assert few[0].shape[2] < one.shape[2]


@pytest.mark.parametrize(
    ("given", "message"),
    (
        ({"picture": 3}, "picture: there are 2"),
        ({"words": "cat"}, "words: 'cat' is in no row. The words that are: a, dog, in, the, desert."),
        ({"images": torch.zeros(1, 64, 64, 3)}, "images: got 1 for 2 latents"),
        ({"latent": {"samples": torch.zeros(BATCH, 4, 3, 3)}}, "latent|probe"),
    ),
)
def test_bad_input_is_refused_with_its_name(sampled, given, message):
    with pytest.raises(ValueError, match=message):
        sheet({**sampled["dog"], **given} if "words" not in given and "picture" not in given else sampled["dog"],
              **{name: value for name, value in given.items() if name in ("words", "picture")})  # fmt: skip
