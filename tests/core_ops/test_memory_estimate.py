from __future__ import annotations

import torch
from core_personalization.core_ops.memory_estimate import activation_bytes, extrapolated
from torch import nn


def network() -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 8)) for _ in range(3)))


def measured(batch: int, recompute: bool = False) -> int:
    net = network()
    return activation_bytes(lambda: net(torch.randn(batch, 8)), net.parameters(), list(net), recompute)


def test_it_counts_what_each_layer_keeps_and_no_weight():
    """Linear keeps its input, tanh its output: the first input, then 32 and 8 numbers a block, the last 8 not kept."""
    assert measured(5) == 4 * 5 * (8 + 3 * 32 + 2 * 8)


def test_recomputed_blocks_keep_their_inputs_and_one_inside():
    inside = 8 + 32
    assert measured(5, recompute=True) == 4 * 5 * (3 * 8 + inside)


def test_a_batch_is_extrapolated_from_two_sizes():
    assert extrapolated(lambda batch: 100 + 7 * batch, 6) == 142
    assert extrapolated(measured, 9) == measured(9)


def test_what_comes_to_lie_where_something_else_was_counts_again():
    """exp keeps its result; nothing else holds it here once the next one is computed."""

    def forward():
        x = torch.zeros(1000, requires_grad=True)
        for _ in range(8):
            x = x.exp()
        return x

    assert activation_bytes(forward, [], [], recompute=False) == 8 * 4000
