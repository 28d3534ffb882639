"""DoRA's weight is that of its equation, and begins as the weight that it adapts."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.weights.low_rank import low_rank_output
from core_personalization.core_ops.weights.weight_decomposition import WeightDecomposed
from oracles.weights import dora_weight
from torch import nn

SHAPES = [(6, 5), (4, 4), (5, 3, 3, 3), (6, 4, 1, 1)]


def adapted(shape: tuple[int, ...]) -> tuple[torch.Tensor, WeightDecomposed]:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=random)
    dora = WeightDecomposed(weight, rank=2, alpha=3.0)
    with torch.no_grad():
        for parameter in (dora.lora_up.weight, dora.lora_down.weight, dora.dora_scale):
            parameter.add_(torch.randn(parameter.shape, generator=random))
    return weight, dora


@pytest.mark.parametrize("shape", SHAPES)
def test_it_begins_as_the_weight(shape):
    weight = torch.randn(shape)
    torch.testing.assert_close(WeightDecomposed(weight, rank=2, alpha=3.0)(weight), weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient_are_those_of_the_equation(shape):
    weight, dora = adapted(shape)
    trained = [dora.lora_up.weight, dora.lora_down.weight, dora.dora_scale]
    expected = dora_weight(weight, trained[0], trained[1], 3.0 / 2, trained[2])
    torch.testing.assert_close(dora(weight).double(), expected, rtol=1e-4, atol=1e-5)
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((dora(weight) * direction).sum(), trained)
    theirs = torch.autograd.grad((expected * direction).sum(), trained)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_its_columns_have_the_trained_lengths(shape):
    weight, dora = adapted(shape)
    lengths = dora(weight).transpose(0, 1).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, dora.dora_scale.abs().flatten())


LAYERS = {
    "linear": (nn.Linear(6, 5), (2, 3, 6)),
    "convolution": (nn.Conv2d(4, 6, 3, padding=1, stride=2), (2, 4, 8, 8)),
    "1 x 1": (nn.Conv2d(4, 6, 1), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_stretched_input_is_a_stretched_weight(name):
    layer, shape = LAYERS[name]
    _, dora = adapted(tuple(layer.weight.shape))
    x = torch.randn(shape)
    with torch.no_grad():
        stretched = x * dora.stretch(layer.weight)
        change = low_rank_output(layer, stretched, dora.lora_up.weight, dora.lora_down.weight)
        output = layer(stretched) + dora.alpha / dora.rank * change
        expected = torch.func.functional_call(layer, {"weight": dora(layer.weight)}, (x,))
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


def test_only_its_parts_are_trained():
    _, dora = adapted((6, 5))
    trained = {name for name, parameter in dora.named_parameters() if parameter.requires_grad}
    assert trained == {"lora_up.weight", "lora_down.weight", "dora_scale"}


def test_a_column_of_zeros_stays_one():
    weight = torch.randn(4, 3)
    weight[:, 1] = 0
    value = WeightDecomposed(weight, rank=2, alpha=1.0)(weight)
    assert value.isfinite().all() and not value[:, 1].any()
