"""Voters' CSV files, counted with the key."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

from .ballot import QUESTIONS, Key

COLUMNS = ("vote", "voter", "pair", "question", "choice")
BOTH = "both"
Answer = tuple[int, str]
"""A pair's number from 1, and the question."""


@dataclass(frozen=True)
class Share:
    """Of the first method among n answers, with the Wilson score interval at 95% (Wilson 1927), by scipy."""

    won: int
    n: int

    @property
    def part(self) -> float:
        return self.won / self.n

    def interval(self) -> tuple[float, float]:
        from scipy.stats import binomtest

        found = binomtest(self.won, self.n).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Count:
    """shares: per question and of both together, where there are answers. left: of the left picture, whoever drew it.

    skipped: files of this vote that cannot be read, each with the reason.
    """

    shares: Mapping[str, Share]
    left: Share
    voters: int
    skipped: Sequence[str]


def counted(key: Key, tables: Iterable[tuple[str, str]]) -> Count | None:
    """Each voter counts once, with the file that has most answers. None: no file has answers of this vote.

    tables: names and texts of CSV files, of which others than this vote's are passed over.
    """
    of_voters: dict[str, Mapping[Answer, str]] = {}
    skipped = []
    for name, text in tables:
        try:
            for voter, answers in _answers(key, text).items():
                if len(answers) > len(of_voters.get(voter, ())):
                    of_voters[voter] = answers
        except ValueError as error:
            skipped.append(f"{name}: {error}")
        except csv.Error:  # A field without end, or NUL: no table of ours.
            continue
    given = [each for answers in of_voters.values() for each in answers.items()]
    if not given:
        return None
    wins = [(question, key.pairs[number - 1].first == choice) for (number, question), choice in given]
    shares = {
        question: Share(sum(won for asked, won in wins if question in (asked, BOTH)), n)
        for question in (*QUESTIONS, BOTH)
        if (n := sum(question in (asked, BOTH) for asked, _ in wins))
    }
    left = Share(sum(choice == "left" for _, choice in given), len(given))
    return Count(shares, left, len(of_voters), skipped)


def _answers(key: Key, text: str) -> dict[str, dict[Answer, str]]:
    """By voter the side that was chosen. Raises ValueError for a row of this vote that cannot be counted."""
    head = text.split("\n", 1)[0]
    rows = csv.DictReader(StringIO(text), delimiter=";" if ";" in head else ",")  # as spreadsheets save it
    found: dict[str, dict[Answer, str]] = {}
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        return found
    for line, row in enumerate(rows, start=2):
        if row["vote"] != key.vote:
            continue
        pair, question, choice = row["pair"] or "", row["question"], row["choice"]
        known = pair.isascii() and pair.isdigit() and len(pair) < 10 and 1 <= int(pair) <= len(key.pairs)
        if not known or question not in QUESTIONS or choice not in ("left", "right"):
            raise ValueError(f"line {line} is no answer")
        found.setdefault(row["voter"] or "", {})[int(pair), question] = choice
    return found
