"""Stages train in bf16 only where that is faster."""

from __future__ import annotations

import pytest
import torch

from lab.world.training import precision

CPU = torch.device("cpu")


class Clock:
    """Time that only passes when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def work(self, *seconds: float):
        durations = iter(seconds)

        def once() -> None:
            self.now += next(durations)

        return once


@pytest.mark.parametrize(
    ("fp32", "bf16", "faster"),
    [
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), torch.float32),
        ((1.0, 1.0, 1.0), (0.5, 0.5, 0.5), torch.bfloat16),
        ((9.0, 1.0, 9.0), (2.0, 2.0, 2.0), torch.float32),
    ],
)
def test_the_best_try_counts(monkeypatch, fp32, bf16, faster):
    clock = Clock()
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock.now)
    workloads = {torch.float32: clock.work(*fp32), torch.bfloat16: clock.work(*bf16)}
    assert precision.fastest(workloads) == faster


@pytest.mark.parametrize("faster", precision.FORMATS)
def test_a_pass_computes_in_the_faster_format(monkeypatch, faster):
    monkeypatch.setattr(precision, "faster_format", lambda _: faster)
    with precision.autocast(CPU):
        assert torch.nn.Linear(4, 4)(torch.zeros(1, 4)).dtype == faster


def test_a_device_is_measured_once(monkeypatch):
    precision.faster_format.cache_clear()
    assert precision.faster_format(CPU) in precision.FORMATS
    monkeypatch.setattr(precision, "fastest", lambda _: pytest.fail("measured again"))
    precision.faster_format(CPU)


@torch.no_grad()
def test_it_can_be_asked_first_where_nothing_is_trained():
    precision.faster_format.cache_clear()
    assert precision.faster_format(CPU) in precision.FORMATS
