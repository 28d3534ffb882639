"""Optimizer steps, accumulation, clipping and state. Knows nothing of losses, images or ComfyUI."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from .objective import FixedWeights, GradientMeans, TrainingStep
from .optimization import (
    FusedBackward,
    OptimizerFactory,
    ParameterAverage,
    adamw,
    constant_rate,
    copied,
    load_optimizer,
    load_parameters,
    optimizer_state,
)

STREAMS = ("data", "prompts")
"""Independent random streams, so that methods that draw no prompts see the same batches as those that do."""
RandomStreams = Mapping[str, torch.Generator]


class Recipe(Protocol):
    """A method: what it trains, one step's objective, and what happens around the optimizer's update.

    weights: λ of its terms, which it has checked against their names.
    """

    weights: FixedWeights

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
    """How many steps, how fast, in which portions.

    rate_factor: of the learning rate in each step, counted from 0. average_decay: of the parameters' moving average; 0
    for none. max_gradient_norm: 0 leaves gradients as they are. measure_every: steps between measurements of each
    term's share of the gradient. averaged_over: how many measurements each term's gradient is averaged over, which
    takes as many numbers a term as are trained; 0 for none. fp16_scaling: dynamic loss scaling, for half-precision
    U-Nets.
    fused_backward: for recipes whose terms share one graph; it takes the gradient as it comes, so what is before it has
    its default, or 0 to measure.
    """

    steps: int
    learning_rate: float
    rate_factor: Callable[[int], float] = constant_rate
    average_decay: float = 0.0
    gradient_accumulation: int = 1
    max_gradient_norm: float = 0.0
    measure_every: int = 10
    averaged_over: int = 0
    seed: int = 0
    fp16_scaling: bool = False
    fused_backward: bool = False

    def __post_init__(self) -> None:
        whole = self.gradient_accumulation > 1 or self.max_gradient_norm > 0 or self.measure_every or self.fp16_scaling
        if self.fused_backward and whole:
            raise ValueError("fused_backward: it never has the whole gradient that the other settings need.")


@dataclass(frozen=True)
class StepReport:
    """One optimizer step, counted from 1: unweighted terms, their weights and sum, and when measured each term's share
    of the gradient norms: of single gradients, most of which are a batch's noise, and of averaged ones.
    """

    step: int
    terms: Mapping[str, float]
    weights: Mapping[str, float]
    total: float
    gradient_shares: Mapping[str, float] | None
    averaged_shares: Mapping[str, float] | None
    observations: Mapping[str, float]


class _MicroBatch(NamedTuple):
    """Of one micro-batch, by term: value, λ and, where measured, the norm of its unweighted gradient."""

    terms: Mapping[str, float]
    weights: Mapping[str, float]
    norms: Mapping[str, float]


class NonFiniteLoss(ArithmeticError):
    """A term became NaN or infinite; the parameters are those before the step."""

    def __init__(self, step: int, terms: Mapping[str, float]) -> None:
        bad = ", ".join(f"{name} = {value}" for name, value in terms.items() if not math.isfinite(value))
        super().__init__(f"step {step}: {bad} is not finite. Lower learning_rate, or use precision fp32 or bf16.")


class TrainingLoop:
    """Iterate over it to train; stop at any report and `state_dict()` holds all that a bit-exact continuation needs."""

    def __init__(self, recipe: Recipe, config: LoopConfig, optimizer: OptimizerFactory | None = None) -> None:
        self.recipe, self.config = recipe, config
        self.step = 0
        self.random = {name: torch.Generator().manual_seed(config.seed + offset) for offset, name in enumerate(STREAMS)}
        self.optimizer = (optimizer or adamw)(recipe.parameters, config.learning_rate)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._average = ParameterAverage(recipe.parameters, config.average_decay)
        self._means = GradientMeans(config.averaged_over)
        self._fused = FusedBackward(self.optimizer, recipe.parameters) if config.fused_backward else None
        first = recipe.parameters[0]
        self.scaler = GradScaler(first.device.type, enabled=config.fp16_scaling)
        self.scaler.scale(first.new_zeros(()))  # makes its scale exist; terms are scaled one by one

    def __iter__(self) -> Iterator[StepReport]:
        while self.step < self.config.steps:
            before = {name: generator.get_state() for name, generator in self.random.items()}
            try:
                report = self._train_one_step()
            except BaseException:
                # What the failed step drew is drawn again by whoever continues from this state.
                self._set_random(before)
                raise
            yield report

    def _train_one_step(self) -> StepReport:
        step, turns = self.step + 1, self.config.gradient_accumulation
        measure = self.config.measure_every > 0 and (step == 1 or step % self.config.measure_every == 0)
        self.optimizer.zero_grad(set_to_none=True)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.config.rate_factor(self.step)
        batches = [self._accumulate(measure and turn == turns - 1) for turn in range(turns)]
        terms = {name: sum(batch.terms[name] for batch in batches) / turns for name in batches[0].terms}
        _require_finite(step, terms)
        self._update(step)
        weights, norms = batches[-1].weights, batches[-1].norms
        averaged = self._means.norms() if measure else {}
        if measure:
            self.recipe.weights.update(averaged or norms)
        self.step = step
        return StepReport(
            step,
            terms,
            weights=weights,
            total=sum(weights[name] * value for name, value in terms.items()),
            gradient_shares=_shares(weights, norms),
            averaged_shares=_shares(weights, averaged),
            observations=self.recipe.observations(),
        )

    def _accumulate(self, measure: bool) -> _MicroBatch:
        """Adds one micro-batch's gradient; when asked, it measures the norm of each term's own."""
        step = self.recipe.training_step(self.random)
        values: dict[str, Tensor] = {}
        norms: dict[str, float] = {}
        weights = step.objective.weights
        for each in step.objective.passes:
            computed = each.computed()
            values |= {name: value.detach() for name, value in computed.items()}
            norms |= self._differentiate(computed, weights, step, measure)
            del computed  # its graph, before the next one is made
        if step.pull_back is not None:
            _add_gradients(self.recipe.parameters, _pulled_back([leaf.grad for leaf in step.leaves], step))
        numbers = torch.stack([value.float() for value in values.values()]).tolist()
        return _MicroBatch(dict(zip(values, numbers, strict=True)), weights, norms)

    def _differentiate(
        self, computed: Mapping[str, Tensor], weights: Mapping[str, float], step: TrainingStep, measure: bool
    ) -> dict[str, float]:
        """Adds the gradient of the terms' weighted sum to the leaves; the norm of each term's own when asked."""
        part = 1.0 / self.config.gradient_accumulation
        weighted = torch.stack([weights[name] * value * part for name, value in computed.items()]).sum()
        weighted = self.scaler.scale(weighted)
        if not measure:
            with self._updating(computed):
                torch.autograd.backward(weighted, inputs=list(step.leaves))
            return {}
        # Reading the scale makes the host wait for the device, so it is read in measured steps only.
        scale = (self.scaler.get_scale() if self.scaler.is_enabled() else 1.0) * part
        first, *others = computed
        norms = {name: self._measured(name, _gradients(computed[name] * scale, step), step, scale) for name in others}
        # A term alone is walked back once: its own gradient is the sum's, divided by its weight.
        alone = not others and weights[first] != 0
        if not alone:
            norms[first] = self._measured(first, _gradients(computed[first] * scale, step), step, scale)
        gradients = _gradients(weighted, step)
        if alone:
            norms[first] = self._measured(first, gradients, step, weights[first] * scale)
        _add_gradients(step.leaves, gradients)
        return norms

    def _measured(self, term: str, gradients: Sequence[Tensor | None], step: TrainingStep, scale: float) -> float:
        """Norm on the trained parameters of a term's gradients on the leaves, `scale` taken off; means take it in."""
        pulled = [gradient for gradient in _pulled_back(gradients, step) if gradient is not None]
        if self.config.averaged_over and pulled:
            self._means.add(term, torch.cat([gradient.float().flatten() for gradient in pulled]) / scale)
        norms = [torch.linalg.vector_norm(gradient.float()) for gradient in pulled]
        return float(torch.linalg.vector_norm(torch.stack(norms))) / scale if norms else 0.0

    def _updating(self, computed: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Around a backward pass: updates within it, where that was asked for."""
        if self._fused is None:
            return nullcontext()
        _require_finite(self.step + 1, {name: value.item() for name, value in computed.items()})
        return self._fused.updating()

    def _update(self, step: int) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.config.max_gradient_norm > 0:
            torch.nn.utils.clip_grad_norm_(list(self.recipe.parameters), self.config.max_gradient_norm)
        with torch.no_grad(), self.recipe.update(step):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self._average.update()

    def averaged(self) -> AbstractContextManager[None]:
        """While it is open, the parameters are what is to be used of them: their average where there is one."""
        return self._average.in_place()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers only, nested in dictionaries; what is trained is copied to main memory."""
        return {
            "step": self.step,
            "parameters": copied(self.recipe.parameters),
            "optimizer": optimizer_state(self.optimizer),
            "average": self._average.state_dict(),
            "random": {name: generator.get_state() for name, generator in self.random.items()},
            "gradient_means": self._means.state_dict(),
            "weighting": self.recipe.weights.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken; raises ValueError when it is damaged, or of other parameters."""
        try:
            load_parameters(self.recipe.parameters, state["parameters"])
            load_optimizer(self.optimizer, state["optimizer"])
            self._average.load_state_dict(state.get("average", {}))
            self._set_random(state["random"])
            self._means.load_state_dict(state["gradient_means"])
            self.recipe.weights.load_state_dict(state["weighting"])
            self.scaler.load_state_dict(state["scaler"] or self.scaler.state_dict())  # {}: it was trained without one
            self.step = int(state["step"])
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise ValueError(
                "start: the state was saved for other parameters, or is damaged "
                f"({type(error).__name__}: {error}); use the settings it was made with, or start anew."
            ) from error

    def _set_random(self, states: Mapping[str, Tensor]) -> None:
        for name, generator in self.random.items():
            generator.set_state(states[name])


def _require_finite(step: int, terms: Mapping[str, float]) -> None:
    if not all(map(math.isfinite, terms.values())):
        raise NonFiniteLoss(step, terms)


def _gradients(value: Tensor, step: TrainingStep) -> list[Tensor | None]:
    return list(torch.autograd.grad(value, step.leaves, retain_graph=True, allow_unused=True))


def _add_gradients(tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    for tensor, gradient in zip(tensors, gradients, strict=True):
        if gradient is not None:
            tensor.grad = gradient if tensor.grad is None else tensor.grad.add_(gradient)


def _pulled_back(gradients: Sequence[Tensor | None], step: TrainingStep) -> Sequence[Tensor | None]:
    """Gradients on the trained parameters for those on the step's leaves; none counts as zeros."""
    if step.pull_back is None:
        return gradients
    return step.pull_back(
        tuple(torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, step.leaves, strict=True))
    )


def _shares(weights: Mapping[str, float], norms: Mapping[str, float]) -> dict[str, float] | None:
    """Of the summed norms of the weighted gradients; None when there are none."""
    total = sum(weights[name] * norm for name, norm in norms.items())
    return {name: weights[name] * norm / total if total > 0 else 0.0 for name, norm in norms.items()} or None
