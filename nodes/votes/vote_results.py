"""Node "Vote Results": which method the voters of a Blind Vote prefer."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..files.vote_files import read_key, state_of_vote, tables
from ..settings import NO_FILE, RefusingNode, schema_inputs, validated
from .ballot import Key
from .ballot_settings import ResultSettings
from .vote_counting import BOTH, Count, counted
from .vote_report import vote_chart, vote_table

SAID = {
    "concept": "Shows the concept better: {0} {1}, {2} {3}",
    "prompt": "Follows the prompt better: {0} {1}, {2} {3}",
    BOTH: "Both questions: {0} {1}, {2} {3}",
}
"""On the node: each method with its share."""


class VoteResults(RefusingNode):
    SETTINGS = ResultSettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReVoteResults",
            display_name="Vote Results",
            category="CoRe Personalization",
            description="Counts the CSV files that voters of a Blind Vote saved: each method's share per question, "
            "with its 95% interval.",
            search_aliases=["user study", "count votes", "human preference", "win rate"],
            is_output_node=True,
            inputs=schema_inputs(ResultSettings),
            outputs=[
                io.String.Output("table", display_name="table", tooltip="Markdown, for Preview as Text."),
                io.Image.Output("chart", display_name="chart", tooltip="Each method's share per question."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, vote: str = "", **_: Any) -> str:
        """Changes with the voters' files, and with the key."""
        return state_of_vote(vote)

    @classmethod
    def refuse(cls, settings: ResultSettings) -> None:
        if settings.vote == NO_FILE:
            raise ValueError("vote: none is chosen; run Blind Vote, press r, and choose it.")

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        settings = validated(ResultSettings, inputs)
        cls.refuse(settings)
        key = Key.from_json(read_key(settings.vote), settings.vote)
        count = counted(key, tables())
        if count is None:
            raise ValueError(
                f"vote: no CSV file in ComfyUI's input folder has answers of {settings.vote!r}; put there what its "
                "voters saved."
            )
        chart = vote_chart(key, count)
        shown = {**ui.PreviewImage(chart, cls=cls).as_dict(), **ui.PreviewText(told(key, count)).as_dict()}
        return io.NodeOutput(vote_table(key, count), chart, ui=shown)


def told(key: Key, count: Count) -> str:
    """The shares alone, to be shown on the node."""
    first, second = key.names
    shares = [
        SAID[question].format(first, f"{share.part:.0%}", second, f"{1 - share.part:.0%}")
        for question, share in count.shares.items()
    ]
    return "\n".join([*shares, f"Voters: {count.voters}"])
