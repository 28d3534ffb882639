"""Updates within the backward pass give the same numbers, with a part of the gradients in memory."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from core_personalization.core_ops.training.objective import FixedWeights, TrainingStep, terms
from core_personalization.core_ops.training.optimization import FusedBackward, adamw, pending_bytes
from core_personalization.core_ops.training.training_loop import LoopConfig, NonFiniteLoss, TrainingLoop
from torch import nn


class Deep:
    """A `Recipe` of many layers, with two terms that share one graph."""

    def __init__(self, layers: int = 24) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(*(nn.Linear(16, 16) for _ in range(layers)))
        self.broken = False
        self.weights = FixedWeights({})

    @property
    def parameters(self) -> list[torch.Tensor]:
        return list(self.network.parameters())

    def training_step(self, random) -> TrainingStep:
        def both():
            output = self.network(torch.randn(4, 16, generator=random["data"]))
            return output.square().mean() * (float("nan") if self.broken else 1.0), output.mean().square()

        return TrainingStep(terms({"size": 1.0, "drift": 1.0}, both), self.parameters)

    def update(self, step: int):
        return nullcontext()

    def observations(self) -> dict[str, float]:
        return {}


def loop(fused: bool, steps: int = 6) -> TrainingLoop:
    config = LoopConfig(steps, 1e-2, measure_every=0, fused_backward=fused)
    return TrainingLoop(Deep(), config)


def assert_equal(mine: TrainingLoop, other: TrainingLoop) -> None:
    for a, b in zip(mine.recipe.parameters, other.recipe.parameters, strict=True):
        assert torch.equal(a, b)


def test_the_same_numbers_as_an_update_at_the_end():
    fused, plain = loop(True), loop(False)
    assert list(fused) == list(plain)
    assert_equal(fused, plain)


def test_a_run_may_be_continued_the_other_way():
    whole, first, second = loop(False), loop(True), loop(False)
    list(whole)
    for report in first:
        if report.step == 3:
            break
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    list(second)
    assert_equal(second, whole)


def test_gradients_are_in_memory_by_portions():
    parameters = Deep().parameters
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(sum(p.grad.nbytes for p in parameters if p.grad is not None))
            return super().step(closure)

    with FusedBackward(Watched(parameters, 1e-2), parameters).updating():
        hidden = torch.randn(4, 16)
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            hidden = nn.functional.linear(hidden, weight, bias)
        hidden.sum().backward()
    whole = sum(p.nbytes for p in parameters)
    assert sum(seen) == whole and len(seen) > 8
    assert max(seen) <= pending_bytes(parameters) < whole / 8
    assert all(p.grad is None for p in parameters)


def test_a_loss_that_is_not_finite_changes_nothing():
    training = loop(True)
    reports = iter(training)
    next(reports)
    before = [p.detach().clone() for p in training.recipe.parameters]
    training.recipe.broken = True
    with pytest.raises(NonFiniteLoss, match=r"step 2: size = nan"):
        next(reports)
    assert all(torch.equal(a, b) for a, b in zip(before, training.recipe.parameters, strict=True))


def test_no_hook_stays_after_a_pass_that_fails():
    parameters = [torch.ones(2, requires_grad=True)]
    fused = FusedBackward(adamw(parameters, 1e-2), parameters)
    with pytest.raises(RuntimeError, match="out of memory"), fused.updating():
        raise RuntimeError("out of memory")
    parameters[0].sum().backward()
    assert parameters[0].grad is not None


@pytest.mark.parametrize(
    "settings", [{"gradient_accumulation": 2}, {"max_gradient_norm": 1.0}, {"measure_every": 5}, {"fp16_scaling": True}]
)
def test_what_needs_the_whole_gradient_is_refused(settings):
    with pytest.raises(ValueError, match="fused_backward"):
        LoopConfig(1, 1e-3, fused_backward=True, **{"measure_every": 0, **settings})
