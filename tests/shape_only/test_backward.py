"""The backward pass in Python against torch's own, on real numbers."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shape_only.backward import run_backward


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, factor: float, x: Tensor) -> Tensor:
        ctx.factor = factor
        return factor * x

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        return None, ctx.factor * gradients[0]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(16, 3))


def loss(net: nn.Module, x: Tensor) -> Tensor:
    """Something of each kind: a checkpoint, broadcasting, a number read twice, two formats, a function in Python."""
    y = checkpoint(net, x, use_reentrant=False)
    assert isinstance(y, Tensor)
    attended = nn.functional.scaled_dot_product_attention(y[None], y[None] * 2, y[None])
    return (_Scaled.apply(0.5, y.double()) + attended.mean() + y.sum(0)).square().mean().float()  # type: ignore[operator]


@pytest.fixture
def in_python():
    with mock.patch.object(torch.autograd, "_engine_run_backward", run_backward):
        yield


def gradients(accumulate: bool) -> list[Tensor]:
    net, x = network(), torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    leaves = [x, *net.parameters()]
    if not accumulate:
        return list(torch.autograd.grad(loss(net, x), leaves))
    for _ in range(2):
        loss(net, x).backward(inputs=leaves[1:])
    assert x.grad is None
    return [leaf.grad for leaf in leaves[1:] if leaf.grad is not None]


EXPECTED = {accumulate: gradients(accumulate) for accumulate in (False, True)}


@pytest.mark.parametrize("accumulate", [False, True])
def test_gradients_are_those_of_torchs_own_engine(in_python, accumulate):
    found = gradients(accumulate)
    assert len(found) == len(EXPECTED[accumulate]) == (6 if accumulate else 7)
    for gradient, expected in zip(found, EXPECTED[accumulate], strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_gradients_may_be_taken_between_two_nodes(in_python):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    middle = x * 3
    (on_middle,) = torch.autograd.grad((middle * middle).sum(), [middle], retain_graph=True)
    (on_x,) = torch.autograd.grad(middle, [x], [on_middle])
    assert on_middle.tolist() == [6.0, 12.0] and on_x.tolist() == [18.0, 36.0]


def test_what_a_tensor_does_not_lead_to_is_none_or_refused(in_python):
    x, other = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    assert torch.autograd.grad(x * 2, [other], allow_unused=True) == (None,)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(x * 2, [other])


def test_a_hook_after_a_gradient_was_accumulated_is_called(in_python):
    x, seen = torch.ones(2, requires_grad=True), []
    x.register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad.tolist()))
    (x * 2).sum().backward()
    assert seen == [[2.0, 2.0]]
