"""Optimizer steps, accumulation, clipping and state. Knows nothing of losses, images or ComfyUI."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from .term_weighting import FixedWeights
from .training_step import Gradients, TrainingStep

STREAMS = ("data", "prompts")
"""Independent random streams, so that methods that draw no prompts see the same batches as those that do."""

RandomStreams = Mapping[str, torch.Generator]


class Recipe(Protocol):
    """A method: what it trains, one step's terms, and what happens around the optimizer's update."""

    @property
    def parameters(self) -> Sequence[Tensor]: ...

    def training_step(self, random: RandomStreams) -> TrainingStep: ...

    def update(self, step: int) -> AbstractContextManager[None]:
        """Surrounds the optimizer's update number `step`, counted from 1."""
        ...

    def observations(self) -> Mapping[str, float]:
        """Figures of interest after an update, such as the norm of v."""
        ...


@dataclass(frozen=True)
class LoopConfig:
    """AdamW as published (betas 0.9 and 0.999, weight decay 0.01, constant rate).

    max_gradient_norm: 0 leaves gradients as they are. measure_every: steps between measurements of each term's share
    of the gradient. fp16_scaling: dynamic loss scaling, for half-precision U-Nets.
    """

    steps: int
    learning_rate: float
    gradient_accumulation: int = 1
    max_gradient_norm: float = 0.0
    measure_every: int = 10
    seed: int = 0
    fp16_scaling: bool = False


@dataclass(frozen=True)
class StepReport:
    """One optimizer step, counted from 1: unweighted terms, their weights and sum, gradient shares when measured."""

    step: int
    terms: Mapping[str, float]
    weights: Mapping[str, float]
    total: float
    gradient_shares: Mapping[str, float] | None
    observations: Mapping[str, float]


class NonFiniteLoss(ArithmeticError):
    """A term became NaN or infinite; the parameters are those before the step."""

    def __init__(self, step: int, terms: Mapping[str, float]) -> None:
        bad = ", ".join(f"{name} = {value}" for name, value in terms.items() if not math.isfinite(value))
        super().__init__(f"step {step}: {bad} is not finite. Lower learning_rate, or use precision fp32 or bf16.")


class TrainingLoop:
    """Iterate over it to train; stop at any report and `state_dict()` holds all that a bit-exact continuation needs."""

    def __init__(self, recipe: Recipe, config: LoopConfig, weighting: FixedWeights) -> None:
        self.recipe, self.config, self.weighting = recipe, config, weighting
        self.step = 0
        self.random = {name: torch.Generator().manual_seed(config.seed + offset) for offset, name in enumerate(STREAMS)}
        self.optimizer = torch.optim.AdamW(list(recipe.parameters), lr=config.learning_rate, weight_decay=1e-2)
        first = recipe.parameters[0]
        self.scaler = GradScaler(first.device.type, enabled=config.fp16_scaling)
        self.scaler.scale(first.new_zeros(()))  # makes its scale exist; terms are scaled one by one

    def __iter__(self) -> Iterator[StepReport]:
        while self.step < self.config.steps:
            yield self._train_one_step()

    def _train_one_step(self) -> StepReport:
        step = self.step + 1
        measure = self.config.measure_every > 0 and (step == 1 or step % self.config.measure_every == 0)
        batches = [self._accumulate(measure and last) for last in self._accumulation()]
        terms = {name: sum(values[name] for values, _ in batches) / len(batches) for name in batches[0][0]}
        if not all(map(math.isfinite, terms.values())):
            raise NonFiniteLoss(step, terms)
        weights = {name: self.weighting[name] for name in terms}
        self._update(step)
        norms = batches[-1][1]
        shares = None
        if measure:
            shares = _shares({name: weights[name] * norm for name, norm in norms.items()})
            self.weighting.update(norms)
        self.step = step
        total = sum(weights[name] * value for name, value in terms.items())
        return StepReport(step, terms, weights, total, shares, self.recipe.observations())

    def _accumulation(self) -> Iterator[bool]:
        """One turn per micro-batch, true for the last; clears the gradients first."""
        self.optimizer.zero_grad(set_to_none=True)
        for turn in range(self.config.gradient_accumulation):
            yield turn == self.config.gradient_accumulation - 1

    def _accumulate(self, measure: bool) -> tuple[dict[str, float], dict[str, float]]:
        """Adds one micro-batch's gradient; returns its terms and, when asked, the norm of each unweighted gradient."""
        step = self.recipe.training_step(self.random)
        scale = self.scaler.get_scale() if self.scaler.is_enabled() else 1.0
        values: dict[str, Tensor] = {}
        norms: dict[str, float] = {}
        summed: Gradients | None = None
        for term in step.terms:
            gradients = _gradients(term.value * scale, step.leaves)
            if measure:
                norms[term.name] = _norm(step.pull_back(gradients)) / scale
            weighted = tuple(self.weighting[term.name] * gradient for gradient in gradients)
            summed = weighted if summed is None else tuple(a + b for a, b in zip(summed, weighted, strict=True))
            values[term.name] = term.value.detach()
            del term, gradients, weighted
        assert summed is not None, "a recipe yields at least one term"
        for parameter, gradient in zip(self.recipe.parameters, step.pull_back(summed), strict=True):
            share = gradient / self.config.gradient_accumulation
            parameter.grad = share if parameter.grad is None else parameter.grad + share
        numbers = torch.stack([value.float() for value in values.values()]).tolist()
        return dict(zip(values, numbers, strict=True)), norms

    def _update(self, step: int) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.config.max_gradient_norm > 0:
            torch.nn.utils.clip_grad_norm_(list(self.recipe.parameters), self.config.max_gradient_norm)
        with torch.no_grad(), self.recipe.update(step):
            self.scaler.step(self.optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers only, nested in dictionaries."""
        return {
            "step": self.step,
            "parameters": {str(index): p.detach().clone() for index, p in enumerate(self.recipe.parameters)},
            "optimizer": {str(index): dict(slots) for index, slots in self.optimizer.state_dict()["state"].items()},
            "random": {name: generator.get_state() for name, generator in self.random.items()},
            "weighting": self.weighting.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken; raises ValueError when it belongs to other parameters."""
        for index, parameter in enumerate(self.recipe.parameters):
            saved = state["parameters"].get(str(index))
            if saved is None or saved.shape != parameter.shape:
                raise ValueError(
                    "resume_from: the state was saved for other parameters; use the settings it was made with."
                )
            parameter.data.copy_(saved)
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {int(index): dict(slots) for index, slots in state["optimizer"].items()}
        self.optimizer.load_state_dict(optimizer)
        for name, generator in self.random.items():
            generator.set_state(state["random"][name])
        self.weighting.load_state_dict(state["weighting"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = int(state["step"])


def _gradients(value: Tensor, leaves: Sequence[Tensor]) -> Gradients:
    """Terms may share a graph; one that nothing refers to any more is freed in spite of `retain_graph`."""
    return torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)


def _norm(gradients: Gradients) -> float:
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients])))


def _shares(norms: Mapping[str, float]) -> dict[str, float]:
    total = sum(norms.values())
    return {name: norm / total if total > 0 else 0.0 for name, norm in norms.items()}
