"""The cards of shapes refuse what CUDA refuses, note what makes the CPU wait, and leave everything else alone."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from shape_only.card import READ, SIZED, TO_CARD, TO_HOST, ShapeOnlyCards

CARD = "cuda:0"


@pytest.fixture
def cards(tmp_path: Path):
    with ShapeOnlyCards(tmp_path) as mode:
        yield mode


def noted(root: Path, code: str) -> list[str]:
    """Kinds of waits of a line of ours."""
    (root / "nodes").mkdir(exist_ok=True)
    file = root / "nodes" / "ours.py"
    with ShapeOnlyCards(root) as mode:
        names = {"torch": torch, "x": torch.zeros(2, 3, device=CARD), "host": torch.ones(2, 3)}
        exec(compile(code, str(file), "exec"), names)  # noqa: S102
    assert all(wait.file == "nodes/ours.py" and wait.line == 1 for wait in mode.waits)
    return sorted(wait.kind for wait, count in mode.waits.items() for _ in range(count))


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        ("x.sum().item()", [READ]),
        ("bool((x == 1).all())", [READ]),
        ("x.cpu()", [TO_HOST]),
        ("host.copy_(x)", [TO_HOST]),
        ("x.copy_(host)", [TO_CARD]),
        ("host.to('cuda:0')", [TO_CARD]),
        ("torch.tensor([1, 2], device='cuda:0')", [TO_CARD]),
        ("x[torch.tensor([0, 1])]", [TO_CARD]),
        ("x.nonzero()", [SIZED]),
        ("x[x > 0]", [SIZED]),
        ("x.unique()", [SIZED]),
        ("x + 1; torch.zeros(3, device='cuda:0'); x * torch.tensor(2.0); host.sum().item(); x.to(torch.half)", []),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_each_wait_is_noted_with_its_line(tmp_path, code, kinds, inference):
    with torch.inference_mode(inference):
        assert noted(tmp_path, code) == kinds


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x, host: x + host,
        lambda x, host: x @ host.T,
        lambda x, host: torch.cat([x, host]),
        lambda x, host: host[torch.zeros(1, dtype=torch.long, device=CARD)],
        lambda x, host: nn.functional.conv1d(x[None], host[:, :, None].mT),
        lambda x, host: x + x.to("cuda:1"),
        lambda x, host: torch.randn(2, device=CARD, generator=torch.Generator()),
    ],
)
def test_tensors_and_generators_of_two_devices_are_refused(cards, mixed):
    with pytest.raises(RuntimeError, match=r"same device|Expected a 'cuda' device type"):
        mixed(torch.zeros(2, 3, device=CARD), torch.ones(2, 3))


def test_the_cpu_goes_on_with_real_numbers(cards):
    assert (torch.tensor([1.0, 2.0]) * 3).tolist() == [3.0, 6.0]
    assert torch.unique(torch.tensor([2, 1, 2])).tolist() == [1, 2]


def test_what_an_operation_makes_off_the_card_is_real_or_meta(cards):
    x = torch.zeros(2, 3, device=CARD)
    for there in (torch.zeros_like(x, device="cpu"), x.new_ones(4, device="cpu"), x.cpu()):
        assert type(there) is torch.Tensor and there.device.type == "cpu" and there.isfinite().all()
    assert type(x.to("meta")) is torch.Tensor and x.to("meta").is_meta


def test_meta_tensors_pass_through_a_mode_within(cards):
    """As where a step is rehearsed on shapes, to plan its memory, before anything is copied to the card."""

    class Counting(TorchDispatchMode):
        made = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            self.made += made.nbytes if isinstance(made, torch.Tensor) else 0
            return made

    layer = nn.Linear(4, 2, device="meta")
    with Counting() as counting:
        out = layer(torch.empty(3, 4, device="meta"))
        out.sum().backward()
    assert counting.made > 0 and out.is_meta and type(out) is torch.Tensor
    assert layer.weight.grad is not None and layer.weight.grad.is_meta
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        out.detach().to(CARD)
    assert not cards.waits


def test_copies_made_weight_by_weight_are_on_the_card(cards):
    layer = nn.Linear(3, 2)
    memo = {id(p): nn.Parameter(p.detach().to(CARD)) for p in layer.parameters()}
    duplicate = copy.deepcopy(layer, memo)
    assert duplicate(torch.zeros(1, 3, device=CARD)).device == torch.device(CARD)
    assert layer.weight.device.type == "cpu" and torch.equal(layer.weight, layer.weight)
