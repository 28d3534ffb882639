"""A scorecard as a value: what the node's `scores` output holds, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...core_ops.scores import Estimate, ScoreSummary

TITLES = {
    "clip_t": "CLIP-T",
    "text_alignment": "Text alignment",
    "clip_i": "CLIP-I",
    "dino": "DINO",
    "subject_alignment": "SA",
    "non_subject_disentanglement": "NSD",
    "style": "Style",
    "face": "Face",
}
"""Every score's name in files, in the order of tables, and in writing. Higher is better in all of them."""

TEXT_SCORES = ("clip_t", "text_alignment")
OF_ALL_PICTURES = (*TEXT_SCORES, "style")
"""Scores in which pictures with a restyling prompt count, too."""
FORMAT = "core-personalization scorecards 1"


@dataclass(frozen=True)
class Scorecard:
    """scores: those that could be computed. facts: what they were computed with, and how many pictures.

    prompts: of each generated picture. pictures: per score a value for each, None where it was left out.
    """

    name: str
    scores: Mapping[str, ScoreSummary]
    facts: Mapping[str, Any]
    notes: Sequence[str]
    prompts: Sequence[str]
    pictures: Mapping[str, Sequence[float | None]]


def to_json(cards: Sequence[Scorecard]) -> str:
    """What the output `scores` and the .json file hold; `from_json` reads it."""
    content = {"format": FORMAT, "scorecards": [asdict(card) for card in cards]}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)


def from_json(text: str) -> list[Scorecard]:
    """Raises ValueError when the text is not what `to_json` makes."""
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise KeyError(f"format {content['format']!r}")
        cards = []
        for entry in content["scorecards"]:
            scores = {
                score: ScoreSummary(
                    overall=Estimate(**summary["overall"]),
                    per_prompt={prompt: Estimate(**estimate) for prompt, estimate in summary["per_prompt"].items()},
                )
                for score, summary in entry["scores"].items()
                if score in TITLES
            }
            cards.append(Scorecard(**{**entry, "scores": scores}))
        return cards
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"[:100]
        raise ValueError(
            f"compare_with: the text is no scorecard ({why}); connect the output scores of another Personalization "
            "Scorecard, or the text of its .json file."
        ) from error
