"""Layers that compute from their weights as they are stored give what a copy in the computed format gives."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from core_personalization.core_ops.weights.stored_weights import compute_from_stored, fetched
from torch import nn

LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (3, 5, 6)),
    "without bias": (lambda: nn.Linear(6, 4, bias=False), (3, 6)),
    "convolution": (lambda: nn.Conv2d(6, 4, 3, padding=1), (2, 6, 8, 8)),
    "strided": (lambda: nn.Conv2d(6, 4, 3, stride=2, padding=1), (2, 6, 9, 8)),
    "in groups": (lambda: nn.Conv2d(6, 4, 3, groups=2, dilation=2), (2, 6, 9, 8)),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float32])
@pytest.mark.parametrize("kind", LAYERS)
def test_output_and_gradient_are_those_of_a_copy_in_fp32(kind, dtype):
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    stored = make().to(dtype).requires_grad_(False)
    whole = copy.deepcopy(stored).float()
    compute_from_stored(stored)
    x, same_x = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    output, expected = stored(x), whole(same_x)
    output.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(output, expected)
    torch.testing.assert_close(x.grad, same_x.grad)
    assert stored.weight.dtype == dtype


def test_nothing_of_the_weight_is_kept_for_the_backward_pass():
    layer = nn.Linear(64, 64).half().requires_grad_(False)
    compute_from_stored(layer)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        layer(torch.randn(2, 64, requires_grad=True))
    assert not kept


def test_a_layer_that_is_trained_or_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="trained"):
        compute_from_stored(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="LayerNorm"):
        compute_from_stored(nn.LayerNorm(2).requires_grad_(False))


def test_a_weight_that_is_as_needed_is_not_copied():
    weight = torch.randn(3)
    assert fetched(weight, torch.device("cpu"), torch.float32).data_ptr() == weight.data_ptr()


def test_a_layer_ends_with_its_last_reference():
    """Half of a card may hang on it; a reference to itself would leave it to the garbage collector."""
    layer = nn.Linear(2, 2).requires_grad_(False)
    compute_from_stored(layer)
    ended = weakref.ref(layer)
    gc.disable()
    try:
        del layer
        assert ended() is None
    finally:
        gc.enable()
