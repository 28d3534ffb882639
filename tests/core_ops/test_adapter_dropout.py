"""Dropout of an adapter: off it is not there, on it keeps the mean, and a layer computed again drops the same."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.weights.adapter_dropout import AdapterDropout
from core_personalization.core_ops.weights.low_rank import low_rank_output
from torch import nn
from torch.utils.checkpoint import checkpoint

LAYERS = {"linear": (nn.Linear(6, 5), (2, 3, 6)), "convolution": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 8, 8))}


def drawn(probability: float, seed: int = 0) -> AdapterDropout:
    dropout = AdapterDropout(probability)
    dropout.draw(torch.Generator().manual_seed(seed))
    return dropout


def test_off_it_draws_nothing_and_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    before, hidden = generator.get_state(), torch.randn(4, 3)
    dropout = AdapterDropout(0.0)
    dropout.draw(generator)
    assert torch.equal(generator.get_state(), before)
    assert dropout(hidden, nn.Linear(3, 3)) is hidden


def test_it_leaves_out_its_part_and_keeps_the_mean():
    hidden = torch.ones(200, 500)
    dropped = drawn(0.3)(hidden, nn.Linear(1, 1))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    assert len(dropped.unique()) == 2


def test_masks_differ_by_layer_and_by_step_and_not_by_turn():
    hidden, layers, dropout = torch.ones(50, 8), [nn.Linear(8, 8) for _ in range(2)], AdapterDropout(0.5)
    generator = torch.Generator().manual_seed(0)
    masks = []
    for _ in range(2):
        dropout.draw(generator)
        masks += [dropout(hidden, layer) for layer in layers]
        assert torch.equal(dropout(hidden, layers[0]), masks[-2])
    assert all(not torch.equal(masks[i], masks[j]) for i in range(4) for j in range(i))


def test_without_gradients_nothing_is_dropped():
    hidden, dropout = torch.randn(4, 3), drawn(0.5)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(dropout(hidden, nn.Linear(3, 3)), hidden)


@pytest.mark.parametrize("name", LAYERS)
def test_it_acts_between_the_two_matrices_also_when_computed_again(name):
    layer, shape = LAYERS[name]
    x, numbers = torch.randn(shape), layer.weight[0].numel()
    up, down = (torch.randn(size, requires_grad=True) for size in ((len(layer.weight), 3), (3, numbers)))
    results = []
    for again in (False, True):
        dropout = drawn(0.5)

        def output(up, down, dropout=dropout):
            return low_rank_output(layer, x, up, down, dropout)

        value = (
            checkpoint(output, up, down, use_reentrant=False, preserve_rng_state=False) if again else output(up, down)
        )
        results.append([value, *torch.autograd.grad(value.square().sum(), [up, down])])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert not torch.allclose(results[0][0], low_rank_output(layer, x, up, down))
