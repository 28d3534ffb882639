"""What a recipe hands to the training loop for one micro-batch, and the cut between text encoder and U-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..conditioning import TextConditioning

Gradients = tuple[Tensor, ...]


@dataclass
class Term:
    """One scalar term of the objective, by name."""

    name: str
    value: Tensor


TermGroup = tuple[Term, ...]
"""Terms that share one graph, as those of one forward pass do: they are differentiated together."""


@dataclass(frozen=True)
class TrainingStep:
    """Groups of terms are computed one after another, so that only one graph is in memory at a time.

    leaves: the tensors that the terms' graphs end in.
    pull_back: gradients on the leaves → gradients on the trained parameters; None when the leaves are the parameters.
    """

    terms: Iterator[TermGroup]
    leaves: Sequence[Tensor]
    pull_back: Callable[[Gradients], Gradients] | None = None


class TextCut:
    """Separates the graph at the text encoder's output.

    Every term differentiates down to `text` only, and the text encoder is walked back once for their sum.
    """

    def __init__(self, text: TextConditioning, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._graph = _tensors(text)
        self.leaves = [tensor.detach().requires_grad_() for tensor in self._graph]
        self.text = _with_tensors(text, self.leaves)

    def pull_back(self, gradients: Gradients) -> Gradients:
        """Gradients on the trained vectors for gradients on `leaves`; may be called again while the cut lives."""
        return torch.autograd.grad(self._graph, self._parameters, gradients, retain_graph=True)


def _tensors(text: TextConditioning) -> list[Tensor]:
    pooled = [] if text.pooled is None else [text.pooled]
    return [*text.outputs.values(), text.context, *pooled]


def _with_tensors(text: TextConditioning, tensors: Sequence[Tensor]) -> TextConditioning:
    outputs = dict(zip(text.outputs, tensors, strict=False))
    context, *pooled = tensors[len(outputs) :]
    return replace(text, outputs=outputs, context=context, pooled=pooled[0] if pooled else None)
