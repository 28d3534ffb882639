"""T-LoRA (Soboleva et al. 2025, arXiv 2507.05964): the noisier a picture is, the fewer ranks of a LoRA take part.

From the noisiest pictures a LoRA learns the photos by heart, their backgrounds and poses, sooner than the thing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .low_rank import low_rank_output

TIMESTEPS = 1000
"""T of all models here."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class RankSchedule:
    """r(t) = ⌊((T − t) / T)^power · (most − least)⌋ + least: the first r(t) ranks count at timestep t.

    Raises ValueError unless 1 ≤ least ≤ most and power > 0.
    """

    most: int
    least: int
    power: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most or not self.power > 0:
            raise ValueError(f"ranks from {self.least} to {self.most} with power {self.power} are none.")

    def mask(self, t: Tensor) -> Tensor:
        """1 for ranks that count, else 0, [B, most]. t: [B], whole numbers or what a sampler has between them."""
        exact = t.to(torch.float32 if t.device.type == "mps" else torch.float64)
        left = ((TIMESTEPS - exact) / TIMESTEPS).clamp(0, 1)
        ranks = (left**self.power * (self.most - self.least)).floor() + self.least
        return (torch.arange(self.most, device=t.device) < ranks.unsqueeze(1)).float()


class TimestepRanks:
    """Where a network's adapters find the masks of the forward pass that runs."""

    def __init__(self) -> None:
        self._t: Tensor | None = None
        self._masks: dict[RankSchedule, Tensor] = {}

    @contextmanager
    def at(self, t: Tensor) -> Iterator[None]:
        """Around a forward pass of pictures at timesteps t, [B]."""
        before, self._t, self._masks = (self._t, self._masks), t, {}
        try:
            yield
        finally:
            self._t, self._masks = before

    def as_now(self, function: Callable[..., Result]) -> Callable[..., Result]:
        """The function at the timesteps of now, whenever it is called: what a backward pass computes again."""
        t = self._t
        if t is None:
            return function

        def called(*args: Any, **kwargs: Any) -> Result:
            with self.at(t):
                return function(*args, **kwargs)

        return called

    def of(self, schedule: RankSchedule) -> Tensor:
        """[B, most]; made once in a forward pass."""
        assert self._t is not None  # a network with such adapters runs within `at`
        if schedule not in self._masks:
            self._masks[schedule] = schedule.mask(self._t)
        return self._masks[schedule]


def masked(mask: Tensor, hidden: Tensor, layer: nn.Module) -> Tensor:
    """hidden: down(x), [b, …, r], of a convolution [b, r, h, w]; b may be a multiple of B, where other code cuts
    pictures into parts. mask: [B, r].
    """
    mask = mask.to(hidden).repeat_interleave(len(hidden) // len(mask), 0)
    places, ranks = mask.shape[:1], mask.shape[1:]
    ones = (1,) * (hidden.ndim - 2)
    return hidden * mask.view(places + ranks + ones if isinstance(layer, nn.Conv2d) else places + ones + ranks)


def scheduled_output(layer: nn.Module, x: Tensor, up: Tensor, down: Tensor, mask: Tensor) -> Tensor:
    """Of T-LoRA's pair for a layer. mask: [B, ranks of the largest layer]."""
    both_halves = mask[:, : len(down) // 2].repeat(1, 2)
    return low_rank_output(layer, x, up, down, partial(masked, both_halves))


class OrthogonalLowRank(nn.Module):
    """T-LoRA's form of a change (Sec. 4.2): up · diag(scale · mask) · down, minus the same as it was at first, so that
    nothing changes at first.

    It starts from the last singular triplets of a normal matrix: ranks that are orthogonal to each other, and small.
    weight: that is changed, [out, in] or a convolution's [out, in, kh, kw]; rank: at most its own.
    """

    start_up: Tensor
    start_scale: Tensor
    start_down: Tensor

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        self.rank = min(rank, rows, columns)
        with weight.device if weight.is_meta else torch.device("cpu"):  # a seed means the same numbers on every device
            up, scale, down = last_triplets(rows, columns, self.rank, spread=1 / rank)
        for name, value in (("up", up), ("scale", scale), ("down", down)):
            self.register_buffer(f"start_{name}", value)
            self.register_parameter(name, nn.Parameter(value.clone()))

    def pair(self) -> tuple[Tensor, Tensor]:
        """The change as one LoRA of twice the rank, up [out, 2r] and down [2r, in·kh·kw], whose masks are the same in
        both halves. Differences are taken before anything is rounded to half precision."""
        start = self.start_up * self.start_scale
        up = torch.cat([self.up * self.scale - start, start], dim=1)
        return up, torch.cat([self.down, self.down - self.start_down])

    def lora_tensors(self) -> dict[str, Tensor]:
        """By the names of a LoRA's parts in files."""
        up, down = (matrix.detach() for matrix in self.pair())
        return {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(2.0 * self.rank)}


def last_triplets(rows: int, columns: int, rank: int, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """u [rows, rank], σ [rank] and vᵀ [rank, columns] of the smallest singular values, falling, of a matrix of normal
    numbers with this standard deviation. On torch's default device, from its generator.

    Drawn without the matrix, which takes minutes for a U-Net: u and v are uniformly random frames, and σ is that of a
    bidiagonal matrix of χ-distributed numbers (Dumitriu and Edelman 2002).
    """
    u, v = _frame(rows, rank), _frame(columns, rank)
    long, short = max(rows, columns), min(rows, columns)
    if u.is_meta:
        return u, u.new_empty(rank), v.T
    from scipy.linalg import eigvalsh_tridiagonal

    def chi_squared(degrees: Tensor) -> Tensor:
        return torch.distributions.Chi2(degrees.double()).sample()

    diagonal = chi_squared(torch.arange(long, long - short, -1))
    beside = chi_squared(torch.arange(short - 1, 0, -1))
    of_gram = diagonal + torch.cat([torch.zeros(1, dtype=torch.float64), beside])
    squared = eigvalsh_tridiagonal(
        of_gram.numpy(), (diagonal[:-1] * beside).sqrt().numpy(), select="i", select_range=(0, rank - 1)
    )
    sigma = spread * torch.from_numpy(squared).clamp(min=0).sqrt().flip(0).float()
    return u, sigma, v.T.contiguous()


def _frame(length: int, count: int) -> Tensor:
    """Orthonormal columns [length, count], any as likely as any other.

    Row by row in memory, as what a state brings back is: optimizers do not look.
    """
    q, r = torch.linalg.qr(torch.randn(length, count))
    return (q * r.diagonal().sign()).contiguous()
