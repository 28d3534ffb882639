"""An adapter on a layer's input and output does what it does on the layer's weight."""

from __future__ import annotations

import copy

import pytest
import torch
from core_personalization.core_ops.weights.low_rank import low_rank_output
from core_personalization.core_ops.weights.trainable_weights import make_trainable
from torch import Tensor, nn

CPU = torch.device("cpu")
LAYERS = {
    "linear": (nn.Linear(6, 5), (2, 3, 6)),
    "convolution": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 8, 8)),
    "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 8, 8)),
    "1 x 1": (nn.Conv2d(4, 6, 1), (2, 4, 5, 5)),
}


class Adapter(nn.Module):
    """W + up · down."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        dtype = torch.float64
        self.up = nn.Parameter(torch.randn(len(weight), 2, generator=draw, dtype=dtype))
        self.down = nn.Parameter(torch.randn(2, weight[0].numel(), generator=draw, dtype=dtype))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view(weight.shape)


class InFp32(Adapter):
    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.float()


def added_output(adapter, layer, x):
    return low_rank_output(layer, x, adapter.up, adapter.down)


@pytest.mark.parametrize("name", LAYERS)
def test_on_input_and_output_as_on_the_weight(name):
    """In fp64, where the two ways of rounding do not count."""
    layer, shape = LAYERS[name]
    outputs, gradients, weights = [], [], []
    for added in (None, added_output):
        module = nn.ModuleDict({"layer": copy.deepcopy(layer)}).requires_grad_(False)
        trained = make_trainable(module, ["layer.weight"], Adapter, (CPU, torch.float64), added)
        torch.manual_seed(0)
        x = torch.randn(shape, requires_grad=True, dtype=torch.float64)
        output = module["layer"](x)
        output.square().sum().backward()
        outputs.append(output.detach())
        gradients.append([x.grad, *(parameter.grad for parameter in trained.parameters.values())])
        weights.append(dict(trained.values())["layer.weight"].detach())
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(weights[1], weights[0])


def test_what_is_trained_stays_in_fp32_under_a_network_in_bf16():
    module = nn.ModuleDict({"layer": nn.Linear(6, 5)}).requires_grad_(False)
    trained = make_trainable(module, ["layer.weight"], InFp32, (CPU, torch.bfloat16), added_output)
    output = module["layer"](torch.randn(3, 6, dtype=torch.bfloat16))
    output.float().sum().backward()
    assert output.dtype == torch.bfloat16
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in trained.parameters.values())


def test_weights_under_an_adapter_are_made_one_at_a_time(monkeypatch):
    module = nn.ModuleDict({"one": nn.Linear(6, 5), "other": nn.Linear(6, 5)}).requires_grad_(False)
    trained = make_trainable(module, ["one.weight", "other.weight"], InFp32, (CPU, torch.float32))
    made, adapted = [], type(trained)._adapted
    monkeypatch.setattr(type(trained), "_adapted", lambda self, name: made.append(name) or adapted(self, name))
    values = iter(trained.values())
    assert made == []
    name, value = next(values)
    assert made == [name] == ["one.weight"] and not torch.equal(value, module["one"].parametrizations.weight.original)
