"""How parameters are updated: AdamW as published, on spheres, the learning rate over a training, their average, and
updates within the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

OptimizerFactory = Callable[[Sequence[Tensor], float], torch.optim.Optimizer]
"""Trained tensors and a learning rate → an optimizer."""
ADAMW_BYTES = 8
"""Of AdamW's state per trained number."""
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of every parameter, in its shape."""


def adamw(parameters: Sequence[Tensor], learning_rate: float, weight_decay: float = 1e-2) -> torch.optim.Optimizer:
    """As published: betas 0.9 and 0.999, weight decay 0.01. Fused where torch can."""
    groups: list[Any] = list(parameters)  # or AdamW's groups of them
    tensors = [tensor for group in groups for tensor in (group["params"] if isinstance(group, dict) else [group])]
    fused = all(tensor.device.type in ("cpu", "cuda") for tensor in tensors)
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=fused)


KAPPA = 1e-4
"""Of Directional Textual Inversion's prior, as published."""


class SphericalSGD(torch.optim.Optimizer):
    """Directional Textual Inversion (Kim et al. 2025, arXiv 2512.13672): v keeps its norm m, and v/m moves on a sphere.

    A v that grows drowns the words around it. Riemannian gradient descent: every step is `learning_rate` radians long,
    in first order. parameters: vectors [V, D] each; their norms m are kept. priors: for each of them the directions μ
    [V, D] of a von Mises-Fisher prior of concentration `kappa`. With g the gradient on v/m: g ← g − κμ, made tangent,
    normalised; then v/m ← v/m − η·g, back on the sphere. As the released program with β = 0.
    """

    def __init__(
        self, parameters: Sequence[Tensor], learning_rate: float, priors: Sequence[Tensor], kappa: float = KAPPA
    ) -> None:
        super().__init__(list(parameters), {"lr": learning_rate})
        self._kappa, self._priors = kappa, dict(zip(parameters, priors, strict=True))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            for vectors in group["params"]:
                if vectors.grad is not None:
                    m = vectors.norm(dim=-1, keepdim=True)
                    vectors.copy_(m * self._moved(vectors / m, m * vectors.grad, self._priors[vectors], group["lr"]))

    def _moved(self, direction: Tensor, gradient: Tensor, prior: Tensor, rate: float) -> Tensor:
        g = gradient - self._kappa * prior
        g = g - (g * direction).sum(-1, keepdim=True) * direction
        g = g / (g.norm(dim=-1, keepdim=True) + 1e-8)
        return normalize(direction - rate * g, dim=-1)


def copied(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """By number, in main memory: the device may have no room for a second one of each."""
    return {str(index): tensor.detach().to("cpu", copy=True) for index, tensor in enumerate(tensors)}


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its slots by the parameters' numbers, and the numbers of its groups."""
    slots = {str(index): dict(slots) for index, slots in optimizer.state_dict()["state"].items()}
    groups = {
        str(index): {name: value for name, value in group.items() if isinstance(value, int | float)}
        for index, group in enumerate(optimizer.param_groups)
    }
    return {**slots, "groups": groups}


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Takes over what `optimizer_state` gave, but for what is a setting: rate and weight decay.

    Raises ValueError when it is of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        moments = [state.get(str(index), {}).get(name) for name in _MOMENTS]
        if any(moment is not None and moment.shape != parameter.shape for moment in moments):
            raise ValueError(f"parameter {index} has another shape")
    whole = optimizer.state_dict()
    whole["state"] = {int(index): dict(slots) for index, slots in state.items() if index != "groups"}
    optimizer.load_state_dict(whole)
    for index, group in enumerate(optimizer.param_groups):
        numbers = state.get("groups", {}).get(str(index), {})
        group |= {name: number for name, number in numbers.items() if name not in ("lr", "weight_decay")}


def load_parameters(parameters: Sequence[Tensor], saved: Mapping[str, Tensor]) -> None:
    """saved: by the parameters' numbers. Raises ValueError when they are of others."""
    for index, parameter in enumerate(parameters):
        if saved[str(index)].shape != parameter.shape:
            raise ValueError(f"parameter {index} has another shape")
        parameter.data.copy_(saved[str(index)])


SCHEDULES = ("constant", "linear", "cosine", "polynomial")


def constant_rate(step: int) -> float:
    """Of the learning rate that is used in a step, counted from 0: all of it, as published."""
    return 1.0


def rate_factor(schedule: str, warmup: float, steps: int) -> Callable[[int], float]:
    """The part of the learning rate that each step has, counted from 0, as transformers and diffusers define it.

    warmup: part of the steps in which it rises from 0.
    """
    rising = round(warmup * steps)
    if schedule == "constant" and not rising:
        return constant_rate
    from transformers.optimization import get_scheduler

    name = "constant_with_warmup" if schedule == "constant" else schedule
    any_optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler: Any = get_scheduler(name, any_optimizer, num_warmup_steps=rising, num_training_steps=steps)
    (factor,) = scheduler.lr_lambdas
    return factor


class ParameterAverage:
    """Exponential moving average of parameters over the updates; decay 0 for none, which costs nothing.

    The decay rises to the given one as (1 + n) / (10 + n), as in diffusers' `EMAModel`: it forgets where it began.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self._parameters, self._decay, self._updates = list(parameters), decay, 0
        self._averages = [parameter.detach().clone() for parameter in parameters] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for average, parameter in zip(self._averages, self._parameters, strict=False):
            average.lerp_(parameter, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters are their averages while this is open."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        """Nothing is copied: what was detached from a parameter keeps its values."""
        for index, average in enumerate(self._averages):
            parameter = self._parameters[index]
            parameter.data, self._averages[index] = average, parameter.data

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self._updates, **copied(self._averages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError where there is no average in it."""
        load_parameters(self._averages, state)
        self._updates = int(state.get("updates", 0))


PORTIONS = 16
"""How often the optimizer steps in a backward pass; every step looks through all parameters."""


def pending_bytes(parameters: Sequence[Tensor]) -> int:
    """Of gradients that wait for their update, at most: a portion, and the largest tensor that completes it."""
    return _portion(parameters) + max(parameter.nbytes for parameter in parameters)


def _portion(parameters: Sequence[Tensor]) -> int:
    return sum(parameter.nbytes for parameter in parameters) // PORTIONS


class FusedBackward:
    """Updates while the backward pass goes on, so that the gradients are never in memory all at once.

    As kohya's scripts and OneTrainer do under this name. Same numbers as an update at the end, bit for bit. optimizer:
    of these leaf `parameters`; its update of one must not depend on another's gradient.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
        self._optimizer, self._parameters = optimizer, list(parameters)
        self._portion, self._pending = _portion(parameters), 0

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Around one backward pass: afterwards all parameters are updated and have no gradients.

        A pass that fails leaves the parameters updated whose turn had come.
        """
        hooks = [parameter.register_post_accumulate_grad_hook(self._collect) for parameter in self._parameters]
        try:
            yield
            self._update()
        finally:
            self._pending = 0
            for hook in hooks:
                hook.remove()

    def _collect(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._pending += parameter.grad.nbytes
        if self._pending >= self._portion:
            self._update()

    def _update(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._pending = 0
