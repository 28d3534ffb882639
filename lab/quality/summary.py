"""From pictures' scores to one line per method: means, and differences from two of them, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from core_personalization.core_ops.scores import Estimate

from .intervals import hierarchical_estimate
from .judging import SCORES
from .methods import ALONE, FAST, LORA, NONE, STRENGTHS
from .records import Scores

BASELINES = ("TI + DreamBooth", "CoRe", FAST, f"TI + DreamBooth{LORA}", NONE, f"{NONE}{ALONE}", f"{NONE}{LORA}")
"""What the others are compared with: all with the first, variants of CoRe with the second, of CoRe fast with the third,
LoRAs with the fourth, strengths of CoRe's regularizers with none, where the same is trained."""
Place = tuple[str, int, int]


@dataclass(frozen=True)
class Line:
    """A method on one kind of references. differences: from each baseline, of the same concept, seed and
    prompt, paired."""

    method: str
    references: str
    concepts: int
    pictures: int
    scores: Mapping[str, Estimate]
    differences: Mapping[str, Mapping[str, Estimate]]


def summarized(rows: Sequence[Any], order: Sequence[str], scores: Scores = SCORES) -> list[Line]:
    """rows: of a bench, with its scores. Only concepts and seeds that every one of a references' methods has would be
    comparable at a glance; where a method has fewer, its line says so by its count, and its differences are of those it
    shares with a baseline."""
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows:
        groups[row.references, row.method].append(row)
    keys = sorted(groups, key=lambda key: (key[0], order.index(key[1])))
    return [
        _line(groups[key], {name: groups[key[0], name] for name in BASELINES if (key[0], name) in groups}, scores)
        for key in keys
    ]


def gains(
    rows: Sequence[Any], method: str, references: str, seed: int, score: Callable[[Any], float | None]
) -> list[str]:
    """Concepts from the largest to the smallest gain of a method over the first baseline in a score; those that both
    have."""

    def means(name: str) -> dict[str, float]:
        found: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if (row.method, row.references, row.seed) == (name, references, seed):
                found[row.concept].append(score(row) or 0.0)
        return {concept: mean(values) for concept, values in found.items()}

    mine, theirs = means(method), means(BASELINES[0])
    return sorted(
        (concept for concept in mine if concept in theirs), key=lambda concept: theirs[concept] - mine[concept]
    )


def _line(rows: Sequence[Any], baselines: Mapping[str, Sequence[Any]], scores: Scores) -> Line:
    first = rows[0]
    estimates = {name: _estimate((row, score(row)) for row in rows) for name, score in scores.items()}
    differences = {
        name: _differences(rows, theirs, scores)
        for name, theirs in baselines.items()
        if _comparable(first.method, name)
    }
    kept = {name: estimate for name, estimate in estimates.items() if estimate is not None}
    return Line(first.method, first.references, len({row.concept for row in rows}), len(rows), kept, differences)


def _comparable(method: str, baseline: str) -> bool:
    if baseline.startswith(NONE):
        stage = baseline.removeprefix(NONE)
        return method != baseline and method in {f"{name}{stage}" for name in STRENGTHS}
    if baseline.endswith(LORA):
        return method != baseline and method.endswith(LORA)
    return method != baseline and (baseline == BASELINES[0] or method.startswith(baseline))


def _differences(rows: Sequence[Any], baseline: Sequence[Any], scores: Scores) -> dict[str, Estimate]:
    others = {_place(row): row for row in baseline}
    pairs = [(row, others[_place(row)]) for row in rows if _place(row) in others]
    found = {}
    for name, score in scores.items():
        values = [(row, score(row), score(other)) for row, other in pairs]
        estimate = _estimate((row, mine - its) for row, mine, its in values if mine is not None and its is not None)
        if estimate is not None:
            found[name] = estimate
    return found


def _place(row: Any) -> Place:
    return row.concept, row.seed, row.index


def _estimate(values: Iterable[tuple[Any, float | None]]) -> Estimate | None:
    """None where no picture has a value."""
    known: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row, value in values:
        if value is not None:
            known[row.concept][row.seed].append(float(value))
    groups = [[torch.tensor(pictures) for pictures in seeds.values()] for seeds in known.values()]
    return hierarchical_estimate(groups) if groups else None
