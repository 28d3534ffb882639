"""Token rows of a prompt, and which of their positions correspond in the concept's row and the reference row."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ConceptSlot:
    """Stands in a token row where the concept's vector number `index` goes."""

    index: int


@dataclass(frozen=True)
class TokenRow:
    """One prompt as the text encoder reads it.

    tokens: per encoder name, `N` entries: a vocabulary id, a fixed vector [width], or a `ConceptSlot`.
    weights: `N` prompt weights such as the 1.2 of `(word:1.2)`.
    span: positions of the concept's vectors, or of the super-category in a reference row; may be empty.
    end: position of the first end-of-text token.
    other_spans: positions of further concepts of the same prompt, or of what stands for them in a reference row.
    """

    tokens: Mapping[str, tuple[int | Tensor | ConceptSlot, ...]]
    weights: tuple[float, ...]
    span: range
    end: int
    other_spans: tuple[range, ...] = ()

    @property
    def first_vector(self) -> int:
        """Index of the concept's first vector among those that are trained."""
        entries = next(iter(self.tokens.values()))[self.span.start :]
        return next(entry.index for entry in entries if isinstance(entry, ConceptSlot))

    @property
    def context(self) -> tuple[int, ...]:
        """Positions of the context tokens: start-of-text to the first end-of-text, both included, without the spans."""
        spans = (self.span, *self.other_spans)
        return tuple(position for position in range(self.end + 1) if not any(position in span for span in spans))


def span_weights(spans: Sequence[range], length: int) -> Tensor:
    """Which of `length` tokens make up each span, as the mean of them: [len(spans), length], each row sums to 1."""
    weights = torch.zeros(len(spans), length)
    for index, span in enumerate(spans):
        weights[index, list(span)] = 1 / len(span)
    return weights


@dataclass(frozen=True)
class AlignedPair:
    """A concept's row and its reference row with the super-category, compared position by position.

    The two spans may differ in length, so the same context token may stand at different positions.
    """

    concept: TokenRow
    reference: TokenRow

    def __post_init__(self) -> None:
        if _context_tokens(self.concept) != _context_tokens(self.reference):
            raise ValueError(
                "super_category: the prompt with it does not split into the same tokens around it as the prompt with "
                "the concept. Give the super-category as plain words."
            )

    def positions(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Positions [n] of the context tokens in the concept's row, and of the same tokens in the reference row.

        Copied to a device once: a copy in every step would make it wait.
        """
        place = torch.device(device)
        if place not in self._positions:
            rows = (self.concept, self.reference)
            with torch.inference_mode(False):
                self._positions[place] = tuple(torch.tensor(row.context, device=device) for row in rows)
        return self._positions[place]

    @cached_property
    def _positions(self) -> dict[torch.device, Any]:
        return {}


def _context_tokens(row: TokenRow) -> list[tuple]:
    """The context as comparable values, for every encoder; fixed vectors compare by content."""
    return [
        tuple(_comparable(tokens[position]) for position in row.context) for _, tokens in sorted(row.tokens.items())
    ]


def _comparable(token: int | Tensor | ConceptSlot) -> Hashable:
    return token if isinstance(token, int | ConceptSlot) else tuple(token.tolist())
