"""What a recipe hands to the training loop for one micro-batch: a weighted sum of terms, none of them computed yet.

Recipes write the sum as their paper does, L_diffusion + λ_emb * L_emb + λ_attn * L_attn. The loop computes one term
after another and differentiates each at once, so that only one graph is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

Gradients = tuple[Tensor, ...]


@dataclass(frozen=True)
class ForwardPass:
    """Scalar terms that share one graph, and so are differentiated together.

    compute: their values, in the order of `names`. weights: their λ.
    """

    names: tuple[str, ...]
    compute: Callable[[], Sequence[Tensor]]
    weights: tuple[float, ...]

    def computed(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.compute(), strict=True))


@dataclass(frozen=True)
class Objective:
    """Forward passes in the order in which they are computed. Objectives are added, and multiplied by a weight."""

    passes: tuple[ForwardPass, ...]

    def __add__(self, other: Objective) -> Objective:
        return Objective((*self.passes, *other.passes))

    def __rmul__(self, weight: float) -> Objective:
        return Objective(
            tuple(replace(each, weights=tuple(weight * own for own in each.weights)) for each in self.passes)
        )

    @property
    def weights(self) -> dict[str, float]:
        """λ by term."""
        return {name: own for each in self.passes for name, own in zip(each.names, each.weights, strict=True)}


def term(name: str, compute: Callable[[], Tensor]) -> Objective:
    """One scalar term, computed by a forward pass of its own."""
    return Objective((ForwardPass((name,), lambda: (compute(),), (1.0,)),))


def terms(weights: Mapping[str, float], compute: Callable[[], Sequence[Tensor]]) -> Objective:
    """Several terms of one forward pass, in the order of their λ."""
    return Objective((ForwardPass(tuple(weights), compute, tuple(weights.values())),))


@dataclass(frozen=True)
class TrainingStep:
    """leaves: the tensors that the terms' graphs end in.

    pull_back: gradients on the leaves → gradients on the trained parameters; None when the leaves are the parameters.
    """

    objective: Objective
    leaves: Sequence[Tensor]
    pull_back: Callable[[Gradients], Gradients] | None = None


class GradientMeans:
    """Of each term's gradient, flat: an exponential mean over about the last `over` measurements.

    What a batch's noise adds to a gradient averages out in it; what moves the parameters in the end is left.
    """

    def __init__(self, over: int) -> None:
        self._decay = 1 - 2 / (over + 1)
        self._means: dict[str, Tensor] = {}
        self._times: dict[str, int] = {}

    def add(self, term: str, gradient: Tensor) -> None:
        """An overflow in it (half precision, before the loss scale has settled) counts as zero."""
        finite = gradient.nan_to_num(0.0, posinf=0.0, neginf=0.0)
        before = self._means.get(term, torch.zeros_like(finite)).to(finite.device)  # a state's are on the CPU
        self._means[term] = torch.lerp(finite, before, self._decay)
        self._times[term] = self._times.get(term, 0) + 1

    def norms(self) -> dict[str, float]:
        """Without the bias towards the zeros that the means began with."""
        return {term: float(mean.norm()) / (1 - self._decay ** self._times[term]) for term, mean in self._means.items()}

    def state_dict(self) -> dict[str, dict[str, Any]]:
        return {"means": {term: mean.clone() for term, mean in self._means.items()}, "times": dict(self._times)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        self._means, self._times = dict(state["means"]), dict(state["times"])


FIXED, BALANCED = "fixed", "balanced"

ZERO = 1e-12
"""A gradient of this norm or less says nothing about how large it will be."""


class FixedWeights:
    """λ as given, by term. In an objective a term without a λ before it counts once, as L_diffusion in CoRe's Eq. 5."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def __getitem__(self, term: str) -> float:
        return self.weights[term]

    def validate(self, weighted: Collection[str]) -> None:
        """Raises ValueError unless exactly these terms have a weight."""
        if self.weights.keys() != set(weighted):
            raise ValueError(
                f"weights: got {', '.join(sorted(self.weights)) or 'none'}; this method weighs "
                f"{', '.join(sorted(weighted)) or 'no term'}: give one for each of these, and no other."
            )

    def update(self, gradient_norms: Mapping[str, float]) -> None:
        """Fixed weights do not follow the gradients."""

    def state_dict(self) -> dict[str, float]:
        return dict(self.weights)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Raises ValueError when it is of other terms."""
        if not state.keys() >= self.weights.keys():
            raise ValueError(f"it has no weight of {', '.join(sorted(self.weights.keys() - state.keys()))}")
        self.weights = {name: state[name] for name in self.weights}


class BalancedWeights(FixedWeights):
    """λ re-set so that each balanced term has a chosen share of the summed gradient norms. Ours, not published.

    shares: term → share in 0…1; together below 1, the rest belongs to the other terms.
    The norms, of averaged gradients where the loop averages them, are smoothed over the updates. A term whose gradient
    is zero keeps its weight. from_minimum: the balanced terms begin at their minimum (as both regularizers do, while v
    equals the super-category's embedding), so that their first gradients are rounding alone, and are passed over.
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        initial: Mapping[str, float],
        smoothing: float = 0.5,
        from_minimum: bool = False,
    ) -> None:
        super().__init__(initial)
        rest = 1 - sum(shares.values())
        if rest <= 0 or min(shares.values(), default=0) < 0:
            raise ValueError(f"gradient shares: {dict(shares)} must be 0 or more and sum to less than 1; lower them.")
        if stray := shares.keys() - initial.keys():
            raise ValueError(f"gradient shares: {', '.join(sorted(stray))} has no weight to begin with; give it one.")
        self.shares = dict(shares)
        self._rest = rest
        self._smoothing = smoothing
        self._from_minimum = from_minimum
        self._norms: dict[str, float] = {}

    def update(self, gradient_norms: Mapping[str, float]) -> None:
        """gradient_norms: per term, the norm of its unweighted gradient on the trained parameters.

        An update with an overflow in it (half precision, before the loss scale has settled) is passed over.
        """
        if not all(map(math.isfinite, gradient_norms.values())):
            return
        passed_over = self._from_minimum and not self._norms
        balanced = {term for term, norm in gradient_norms.items() if term in self.shares and norm > ZERO}
        for term, norm in gradient_norms.items():
            if term in self.shares and (passed_over or term not in balanced):
                continue
            # A mean of logarithms: norms differ by orders of magnitude, and an outlier must not outweigh all others.
            before, now = (math.log(max(value, 1e-30)) for value in (self._norms.get(term, norm), norm))
            self._norms[term] = math.exp(self._smoothing * before + (1 - self._smoothing) * now)
        others = sum(
            self.weights.get(term, 1.0) * norm for term, norm in self._norms.items() if term not in self.shares
        )
        # λ_i · norm_i is to be share_i of the sum, of which the others, with their own λ, are the rest.
        for term in balanced & self._norms.keys():
            self.weights[term] = self.shares[term] / self._rest * others / self._norms[term]

    def state_dict(self) -> dict[str, float]:
        return self.weights | {f"norm.{term}": norm for term, norm in self._norms.items()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        super().load_state_dict(state)
        self._norms = {key.removeprefix("norm."): value for key, value in state.items() if key.startswith("norm.")}
