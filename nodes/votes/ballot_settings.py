"""Settings of "Blind Vote" and "Vote Results"."""

from __future__ import annotations

from dataclasses import dataclass

from ..files.vote_files import vote_names
from ..settings import file, integer, switch, text


@dataclass(frozen=True)
class BallotSettings:
    """Inputs of "Blind Vote", in the order in which they are shown."""

    vote_name: str = text(
        "vote", help="Name of the files. Voters see it as the page's name, so it should name no method."
    )
    first_name: str = text("first", help="What the results call the method of first. It is not in the page.")
    second_name: str = text("second", help="What the results call the method of second. It is not in the page.")
    super_category: str = text(
        "", help="What stands for the concept in the prompts that voters read: dog, teapot. Empty: [this]."
    )
    most_pairs: int = integer(
        40,
        low=0,
        high=10_000,
        help="Pairs that a voter is shown, drawn by the seed: every prompt comes before any comes again. 0: all.",
    )
    seed: int = integer(
        0,
        low=0,
        high=2**53,
        help="Seed of the pairs' order, and of which method is on the left.",
        control_after_generate=False,
    )
    overwrite: bool = switch(False, help="Replace files of the same name. Off: a number is added to the new ones.")
    picture_side: int = integer(
        512, low=64, high=2048, help="Longer side in pixels of the pictures in the page, at most.", advanced=True
    )


@dataclass(frozen=True)
class ResultSettings:
    """Inputs of "Vote Results"."""

    vote: str = file(
        vote_names,
        help="Of which Blind Vote: its key in ComfyUI's output folder, in votes. Press r to refresh the list.",
    )
