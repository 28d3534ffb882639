"""torch's backward pass in Python, one node of the graph after another.

torch's own engine asks the driver for the streams of every CUDA tensor's card, of which a machine without one has none.
The nodes are torch's. Left out: hooks on tensors and on nodes, other than those after a gradient was accumulated, and
gradients of gradients. What a graph saved is not freed when it was walked.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import get_gradient_edge
from torch.utils.checkpoint import GraphExecGroup

Edge = tuple[Any, int]
"""A node, and which of its inputs."""


def run_backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Tensor],
    allow_unreachable: bool = False,
    accumulate_grad: bool = False,
) -> tuple[Tensor | None, ...]:
    """In place of `torch.autograd._engine_run_backward`, which is under `backward` and `grad`.

    accumulate_grad: into the `grad` of the leaves; else the gradients on `inputs` are returned.
    """
    assert not create_graph, "gradients of gradients are not pretended"
    roots = [_edge(tensor) for tensor in outputs]
    wanted = [_edge(tensor) for tensor in inputs]
    walk = _Walk([node for node, _ in roots], {node for node, _ in wanted}, accumulate_grad)
    with torch.set_grad_enabled(False), GraphExecGroup():  # so that a checkpoint recomputes once
        for edge, gradient in zip(roots, gradients, strict=True):
            walk.receive(edge, gradient)
        walk.run()
    if accumulate_grad:
        return ()
    found = tuple(walk.captured.get(edge) for edge in wanted)
    if None in found and not allow_unreachable:
        raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph.")
    return found


def _edge(tensor: Tensor) -> Edge:
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr


class _Walk:
    """From the outputs' nodes, each when all gradients on it have come, to those `wanted`; no node: to all leaves."""

    def __init__(self, roots: Sequence[Any], wanted: set[Any], accumulate: bool) -> None:
        self.captured: dict[Edge, Tensor] = {}
        self._wanted, self._accumulate = wanted, accumulate
        self._awaited: Counter[Any] = Counter()
        self._gradients: dict[Any, list[Tensor | None]] = {}
        self._ready: list[tuple[int, int, Any]] = []
        nodes = _reachable(roots)
        for node in nodes:
            self._awaited.update(following for following, _ in _next(node))
        self._needed = set(wanted) if wanted else set(nodes)
        for node in sorted(nodes, key=lambda node: node._sequence_nr()):  # what a node leads to came before it
            if any(following in self._needed for following, _ in _next(node)):
                self._needed.add(node)
        for root in dict.fromkeys(roots):
            if not self._awaited[root]:
                self._push(root)

    def receive(self, edge: Edge, gradient: Tensor | None) -> None:
        node, number = edge
        slots = self._gradients.setdefault(node, [None] * max(len(node._input_metadata), number + 1))
        if gradient is not None:
            gradient = _as_expected(gradient, node._input_metadata[number], node)
            there = slots[number]
            slots[number] = gradient if there is None else there + gradient

    def run(self) -> None:
        while self._ready:
            *_, node = heapq.heappop(self._ready)
            slots = self._gradients.pop(node, [None])
            if node in self._wanted and not self._accumulate:
                self.captured |= {(node, number): slot for number, slot in enumerate(slots) if slot is not None}
            results = self._apply(node, slots)
            for edge, gradient in zip(_next(node), results, strict=True):
                self._send(edge, gradient)

    def _apply(self, node: Any, slots: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        edges = _next(node)
        leads_on = any(following in self._needed for following, _ in edges)
        leaf = hasattr(node, "variable")  # AccumulateGrad
        accumulates = leaf and self._accumulate and node in self._needed
        if all(slot is None for slot in slots) or not (leads_on or accumulates):
            return [None] * len(edges)
        return _on_edges(node, slots)

    def _send(self, edge: Edge, gradient: Tensor | None) -> None:
        self.receive(edge, gradient)
        self._awaited[edge[0]] -= 1
        if not self._awaited[edge[0]]:
            self._push(edge[0])

    def _push(self, node: Any) -> None:
        """Leaves first, then the latest of the forward pass, as torch's engine."""
        heapq.heappush(self._ready, (-node._sequence_nr(), id(node), node))


def _on_edges(node: Any, slots: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The node's gradients, one for each of `_next`."""
    if isinstance(node, BackwardCFunction):  # written in Python: one for each argument, tensor or not
        expected = zip(slots, node._input_metadata, strict=True)  # type: ignore[attr-defined]
        filled = [torch.zeros(e.shape, dtype=e.dtype, device=e.device) if s is None else s for s, e in expected]
        results: Any = node.apply(*filled)
        results = results if isinstance(results, tuple) else (results,)
        return [result for result, needed in zip(results, node.needs_input_grad, strict=True) if needed]
    results = node(*slots)
    results = results if isinstance(results, tuple) else (results,)
    return [result for result, (following, _) in zip(results, node.next_functions, strict=False) if following]


def _next(node: Any) -> list[Edge]:
    return [edge for edge in node.next_functions if edge[0] is not None]


def _reachable(roots: Sequence[Any]) -> list[Any]:
    found, waiting = dict.fromkeys(roots), list(roots)
    while waiting:
        for node, _ in _next(waiting.pop()):
            if node not in found:
                found[node] = None
                waiting.append(node)
    return list(found)


def _as_expected(gradient: Tensor, expected: Any, node: Any) -> Tensor:
    """Summed over what was broadcast, in the number format of the forward pass; its device must be that one's."""
    if gradient.shape != expected.shape:
        gradient = gradient.sum_to_size(expected.shape)
    if gradient.device != expected.device:
        if gradient.ndim:
            raise RuntimeError(f"{node.name()}: gradient on {gradient.device}, the forward pass on {expected.device}")
        gradient = gradient.to(expected.device)
    return gradient.to(expected.dtype)
