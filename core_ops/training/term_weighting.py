"""How much each term of the objective counts."""

from __future__ import annotations

import math
from collections.abc import Mapping

ZERO = 1e-12
"""A gradient of this norm or less says nothing about how large it will be."""


class FixedWeights:
    """λ as given (CoRe Eq. 5); a term without an entry counts once."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def __getitem__(self, term: str) -> float:
        return self.weights.get(term, 1.0)

    def update(self, gradient_norms: Mapping[str, float]) -> None:
        """Fixed weights do not follow the gradients."""

    def state_dict(self) -> dict[str, float]:
        return dict(self.weights)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.weights = dict(state)


class BalancedWeights(FixedWeights):
    """λ re-set so that each balanced term has a chosen share of the summed gradient norms. Ours, not published.

    shares: term → share in 0…1; together below 1, the rest belongs to the other terms.
    The norms are smoothed over the updates, since one batch's gradient is noisy. A term whose gradient is zero keeps
    its weight. from_minimum: the balanced terms begin at their minimum (as both regularizers do, while v equals the
    super-category's embedding), so that their first gradients are rounding alone, and are passed over.
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
            self._norms[term] = math.exp(
                self._smoothing * math.log(max(self._norms.get(term, norm), 1e-30))
                + (1 - self._smoothing) * math.log(max(norm, 1e-30))
            )
        others = sum(self[term] * norm for term, norm in self._norms.items() if term not in self.shares)
        for term in balanced & self._norms.keys():
            self.weights[term] = self.shares[term] / self._rest * others / self._norms[term]

    def state_dict(self) -> dict[str, float]:
        return self.weights | {f"norm.{term}": norm for term, norm in self._norms.items()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self._norms = {key.removeprefix("norm."): value for key, value in state.items() if key.startswith("norm.")}
        self.weights = {key: value for key, value in state.items() if not key.startswith("norm.")}
