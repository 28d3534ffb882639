"""The nodes "Blind Vote" and "Vote Results"; tests/browser/test_blind_vote.py votes as a person does."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

RED, BLUE = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
PROMPTS = ("a photo of a embedding:my-cat in the (snow:1.2)", "a painting of a embedding:my-cat")


@pytest.fixture
def votes(comfyui) -> Path:
    """The folder of pages and keys, and the input folder, emptied."""
    import folder_paths

    folder = Path(folder_paths.get_output_directory()) / "votes"
    for file in (*folder.glob("*"), *Path(folder_paths.get_input_directory()).rglob("*.csv")):
        file.unlink()
    return folder


def pictures(colour: torch.Tensor, count: int = 6, size: tuple[int, int] = (40, 60)) -> list[torch.Tensor]:
    return [colour.expand(count, *size, 3)]


def vote(**given: Any) -> tuple[str, str]:
    """The node as the host runs it: every input a list. Where page and key are."""
    from core_personalization.nodes.votes.blind_vote import BlindVote

    sockets = {
        "first": pictures(RED),
        "second": pictures(BLUE),
        "prompts": [PROMPTS[number % 2] for number in range(6)],
        "references": pictures(RED + BLUE, 5),
    }
    inputs = {"first_name": "CoRe", "second_name": "Textual Inversion", "super_category": "cat"} | given
    lists = {name: inputs.pop(name, value) for name, value in sockets.items()}
    with torch.inference_mode():
        return BlindVote.execute(**lists, **{name: [value] for name, value in inputs.items()}).args


def results(vote: str = "vote") -> Any:
    from core_personalization.nodes.votes.vote_results import VoteResults

    with torch.inference_mode():
        return VoteResults.execute(vote=vote)


def ballot_of(page: str) -> dict[str, Any]:
    return json.loads(re.findall(r"const BALLOT = (.*);$", Path(page).read_text(encoding="utf-8"), re.MULTILINE)[0])


def key_of(file: str) -> dict[str, Any]:
    return json.loads(Path(file).read_text(encoding="utf-8"))


def is_red(address: str) -> bool:
    with Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,")))) as picture:
        red, _, blue = picture.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
    return red > blue


def table(key: dict[str, Any], answers: list[tuple[int, str, str]], voter: str = "a", separator: str = ",") -> str:
    """What the page saves."""
    rows = [("vote", "voter", "pair", "question", "choice")]
    rows += [(key["vote"], voter, str(pair), question, choice) for pair, question, choice in answers]
    return "".join(f"{separator.join(row)}\n" for row in rows)


def answered(key: dict[str, Any], *, first: int, question: str = "concept") -> list[tuple[int, str, str]]:
    """Every pair's question answered; of the pairs, so many for the first method."""
    other = {"left": "right", "right": "left"}
    return [
        (number + 1, question, pair["first"] if number < first else other[pair["first"]])
        for number, pair in enumerate(key["pairs"])
    ]


def place(text: str, name: str = "votes.csv", encoding: str = "utf-8") -> None:
    import folder_paths

    file = Path(folder_paths.get_input_directory()) / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding=encoding)


def test_the_page_has_all_pictures_and_the_key_alone_knows_who_drew_them(votes):
    page, key = vote(seed=3)
    ballot, sides = ballot_of(page), key_of(key)
    assert [len(ballot["pairs"]), len(ballot["references"])] == [6, 4]
    assert [is_red(pair["left"]) for pair in ballot["pairs"]] == [pair["first"] == "left" for pair in sides["pairs"]]
    assert all(is_red(pair["left"]) != is_red(pair["right"]) for pair in ballot["pairs"])
    assert {pair["prompt"] for pair in ballot["pairs"]} == {"a photo of a cat in the snow", "a painting of a cat"}
    assert sides["names"] == ["CoRe", "Textual Inversion"] and sides["vote"] == ballot["vote"]
    text = Path(page).read_text(encoding="utf-8")
    assert not re.search(r"CoRe|Textual|my-cat|https?:|\bseed\b", text)
    assert Path(page).parent == Path(key).parent == votes


def test_sides_and_order_go_by_the_seed_and_half_are_on_each_side(votes):
    many = {"first": pictures(RED, 40), "second": pictures(BLUE, 40), "prompts": ["a cat"], "overwrite": True}
    drawn = [key_of(vote(seed=seed, **many)[1])["pairs"] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [sum(pair["first"] == "left" for pair in pairs) for pairs in drawn] == [20] * 3
    assert sorted(pair["picture"] for pair in drawn[0]) == list(range(40))


def test_every_prompt_comes_before_any_comes_again(votes):
    prompts = [f"cat {number % 5}" for number in range(40)]
    many = {"first": pictures(RED, 40), "second": pictures(BLUE, 40), "prompts": prompts, "most_pairs": 7}
    shown = [pair["prompt"] for pair in ballot_of(vote(**many)[0])["pairs"]]
    assert len(shown) == 7 and len(set(shown[:5])) == 5


def test_somebodys_prompt_ends_no_script_and_large_pictures_are_made_smaller(votes):
    large = {"first": pictures(RED, 1, (300, 900)), "second": pictures(BLUE, 1, (900, 300)), "picture_side": 90}
    ballot = ballot_of(vote(prompts=["</script><b>a cat"], **large)[0])
    assert ballot["pairs"][0]["prompt"] == "</script><b>a cat"
    sizes = set()
    for side in ("left", "right"):
        address = ballot["pairs"][0][side].removeprefix("data:image/jpeg;base64,")
        sizes.add(Image.open(io.BytesIO(base64.b64decode(address))).size)
    assert sizes == {(90, 30), (30, 90)}


def test_a_taken_name_gets_a_number(votes):
    assert [Path(vote()[0]).name for _ in range(2)] == ["vote.html", "vote-2.html"]
    assert Path(vote(overwrite=True)[0]).name == "vote.html"


def wilson(won: int, n: int) -> tuple[float, float]:
    """Wilson 1927, by hand."""
    z = 1.959964
    middle, half = won + z * z / 2, z * math.sqrt(won * (n - won) / n + z * z / 4)
    return (middle - half) / (n + z * z), (middle + half) / (n + z * z)


def test_votes_are_counted_with_wilsons_interval(votes):
    key = key_of(vote()[1])
    place(table(key, answered(key, first=5)), "one.csv")
    place(table(key, answered(key, first=3) + answered(key, first=0, question="prompt"), "b"), "folder/two.csv")
    found = results()
    text, chart = found.args
    for title, won, n in (("shows the concept", 8, 12), ("follows the prompt", 0, 6), ("both questions", 8, 18)):
        low, high = wilson(won, n)
        row = next(line for line in text.splitlines() if line.startswith(f"| {title}"))
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        assert cells == [f"{won / n:.1%}", f"{low:.1%} to {high:.1%}", f"{1 - won / n:.1%}", str(n)]
    assert "Voters: 2, pairs: 6." in text and chart.ndim == 4
    assert found.ui["text"][0].startswith("Shows the concept better: CoRe 67%, Textual Inversion 33%\n")


def test_a_voter_counts_once_with_the_fullest_file_and_a_spreadsheets_form_is_read(votes):
    key = key_of(vote()[1])
    place(table(key, answered(key, first=6)[:2]), "early.csv")
    place(table(key, answered(key, first=1), separator=";"), "late.csv", encoding="utf-8-sig")
    assert "| shows the concept better | 16.7% |" in results().args[0]
    assert "Voters: 1, pairs: 6." in results().args[0]


def test_what_is_no_vote_of_this_one_is_passed_over_or_named(votes):
    key = key_of(vote()[1])
    place(table(key, answered(key, first=6)), "good.csv")
    place(table({"vote": "another"}, answered(key, first=0), "b"), "another.csv")
    place("a,b\n1,2\n", "table.csv")
    place("\x00\xff", "binary.csv", encoding="latin-1")
    place("vote,voter,pair,question,choice\n" + "x" * 200_000, "endless.csv")
    place(table(key, [(int("9" * 4000), "concept", "left")], "d"), "far.csv")
    place(table(key, [(7, "concept", "left")], "c"), "broken.csv")
    text = results().args[0]
    assert "| shows the concept better | 100.0% |" in text and "Voters: 1," in text
    assert "Left out: broken.csv: line 2 is no answer." in text and "another.csv" not in text
    assert "Left out: far.csv: line 2 is no answer." in text and "endless.csv" not in text


def test_it_is_counted_again_when_a_file_comes(votes):
    from core_personalization.nodes.votes.vote_results import VoteResults

    key = key_of(vote()[1])
    before = VoteResults.fingerprint_inputs(vote="vote")
    place(table(key, answered(key, first=6)))
    assert VoteResults.fingerprint_inputs(vote="vote") != before


def test_it_is_counted_again_when_the_methods_have_other_names(votes):
    from core_personalization.nodes.votes.vote_results import VoteResults

    vote()
    before = VoteResults.fingerprint_inputs(vote="vote")
    assert VoteResults.fingerprint_inputs(vote="vote") == before
    vote(first_name="TI", second_name="CoRe", overwrite=True)
    assert VoteResults.fingerprint_inputs(vote="vote") != before


@pytest.mark.parametrize(
    ("given", "message"),
    (
        ({"second": pictures(BLUE, 5)}, "second: got 5 for 6 pictures of first"),
        ({"prompts": ["a", "b"]}, "prompts: got 2 for 6 pictures"),
        ({"references": []}, "references: got none"),
        ({"first": [torch.full((6, 16, 16, 3), math.nan)]}, "first: picture 0 .*finite"),
        ({"vote_name": "../mine"}, "vote_name"),
        ({"second_name": "CoRe"}, "second_name: both methods have the same name"),
        ({"most_pairs": -1}, "most_pairs: -1 is out of range"),
    ),
)
def test_bad_input_is_refused_with_its_name(votes, given, message):
    with pytest.raises(ValueError, match=message):
        vote(**given)
    assert not list(votes.glob("*"))


def test_results_without_votes_or_key_are_refused(votes):
    with pytest.raises(ValueError, match="vote: none is chosen"):
        results("none")
    with pytest.raises(ValueError, match="vote: 'vote' is not one of"):
        results()
    vote()
    with pytest.raises(ValueError, match="vote: no CSV file in ComfyUI's input folder has answers of 'vote'"):
        results()
    (votes / "vote.key.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="vote: 'vote' is not the key of a blind vote"):
        results()
