"""Time to quality: when a method's means come up to the target, in parts of the target's own time."""

from __future__ import annotations

from lab.quality.methods import CORE, FAST, METHODS, TI
from lab.quality.times import CONSTANT, METHOD_OF, RUNS, STEPS, TimedRow, table


def rows_of(method: str, concept: str, found: dict[int, tuple[float, float, float]]) -> list[TimedRow]:
    return [TimedRow(method, CONSTANT, concept, step, *of_step) for step, of_step in found.items()]


def test_it_is_the_first_step_at_which_both_means_come_near():
    rows = rows_of(CORE, "a", {150: (10.0, 0.9, 0.5), 300: (20.0, 1.0, 0.6)})
    rows += rows_of(CORE, "b", {150: (10.0, 0.9, 0.5), 300: (20.0, 0.9, 0.8)})  # together .95 and .7
    rows += rows_of(FAST, "a", {25: (1.0, 1.0, 0.5), 50: (2.0, 0.93, 0.69), 75: (3.0, 1.0, 1.0)})
    rows += rows_of(TI, "a", {300: (5.0, 0.92, 0.9)})
    lines = table(rows).splitlines()
    assert "| CoRe fast | constant | 1 | 50 | 0.10 | 0.930 | 0.690 |" in lines
    assert "| CoRe | constant | 2 | 300 | 1.00 | 0.950 | 0.700 |" in lines
    assert "| Textual Inversion | constant | 1 | not within 300 |  | 0.920 | 0.900 |" in lines


def test_it_looks_at_methods_that_the_benchmark_has_within_the_published_steps():
    assert {method for method, _ in RUNS} == set(METHOD_OF) and set(METHOD_OF.values()) <= set(METHODS)
    assert all(set(steps) <= set(STEPS) for steps in RUNS.values())
