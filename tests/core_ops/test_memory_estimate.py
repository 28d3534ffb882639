from __future__ import annotations

import torch
from core_personalization.core_ops.training.memory_estimate import (
    BLOCK,
    META,
    rehearsed_attention,
    step_bytes,
    storage_bytes,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

NUMBERS = 64 * BLOCK // 4
"""In a tensor of 64 blocks."""


def network(layers: int = 4) -> nn.Sequential:
    return nn.Sequential(*(nn.Tanh() for _ in range(layers)))


def tensor() -> torch.Tensor:
    return torch.empty(NUMBERS, device=META, requires_grad=True)


def blocks(step) -> float:
    return step_bytes(step) / (64 * BLOCK)


def test_memory_is_counted_of_what_the_backward_pass_needs():
    """tanh keeps its output; on the way back there are the gradient given, one that comes and one that is made."""
    x = tensor()
    assert blocks(lambda: network()(x).backward(torch.empty_like(x))) == 4 + 3


def test_without_gradients_two_tensors_are_there_at_a_time():
    x = tensor().detach()
    with torch.no_grad():
        assert blocks(lambda: network(9)(x)) == 2


def test_recomputed_blocks_keep_less():
    x, net = tensor(), nn.ModuleList([network(4) for _ in range(5)])

    def step(recompute: bool) -> None:
        y = x
        for part in net:
            y = checkpoint(part, y, use_reentrant=False, preserve_rng_state=False) if recompute else part(y)
        y.backward(torch.empty_like(y))

    assert blocks(lambda: step(False)) == 20 + 3
    assert blocks(lambda: step(True)) < 12


def test_views_and_updates_in_place_take_nothing():
    x = tensor().detach()
    assert step_bytes(lambda: x.view(-1, 4).T.add_(1)) == 0


def test_what_is_read_is_one_and_nothing_is_computed():
    x = torch.empty(3, device=META)
    read: list = []
    step_bytes(lambda: read.extend([x.sum().item(), x.tolist()]))
    assert read == [1.0, [1.0, 1.0, 1.0]]


def test_a_tensor_on_the_cpu_counts_where_it_is_fetched():
    """A weight in main memory: nothing, until it comes to the device for a product."""
    weight = torch.zeros(NUMBERS)
    assert step_bytes(lambda: weight + 1) == 0
    assert step_bytes(lambda: weight.to(META) * 1) == 2 * 64 * BLOCK


def test_fused_attention_keeps_no_map():
    """4096 pixels attend to each other: the map of 8 heads would be 512 MiB, the four tensors are 20 MiB."""
    q, k, v = (torch.empty(1, 4096, 320, device=META, requires_grad=True) for _ in range(3))
    taken = step_bytes(lambda: rehearsed_attention(q, k, v, 8).sum().backward())
    assert 5 * 2**20 < taken < 40 * 2**20


def test_storages_are_counted_once_and_in_whole_blocks():
    x = torch.empty(3, device=META)
    assert storage_bytes([x, x[1:], torch.empty(BLOCK // 4 + 1, device=META)]) == BLOCK + 2 * BLOCK
