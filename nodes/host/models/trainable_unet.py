"""Which of a host U-Net's weights are trained, and in which form: the host's own adapters (LoRA, LoHa, LoKr, OFT), or
ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from comfy.weight_adapter import adapter_maps
from torch import Tensor, nn

from ....core_ops.weights.adapter_dropout import AdapterDropout
from ....core_ops.weights.low_rank import low_rank_output
from ....core_ops.weights.stored_weights import fetched
from ....core_ops.weights.timestep_rank import OrthogonalLowRank, RankSchedule, TimestepRanks, scheduled_output
from ....core_ops.weights.trainable_weights import SingularValueShifts, TrainableWeights, WeightForm, make_trainable
from ....core_ops.weights.weight_decomposition import WeightDecomposed
from .unet_layout import unet_parameters

WHOLE, ATTENTION, CROSS_ATTENTION, KEYS_VALUES = (
    "whole U-Net",
    "attention layers",
    "cross-attention layers",
    "keys and values of cross-attention",
)
_MARKS: dict[str, tuple[str, ...]] = {
    WHOLE: ("",),
    ATTENTION: (".attn1.", ".attn2."),
    CROSS_ATTENTION: (".attn2.",),
    KEYS_VALUES: (".attn2.to_k.", ".attn2.to_v."),
}
SCOPES = tuple(_MARKS)

FULL, SINGULAR_VALUES = "full weights", "singular values"
LORA, DORA, T_LORA, OFT = "LoRA", "DoRA", "T-LoRA", "OFT"
ADAPTERS = (LORA, DORA, T_LORA, "LoHa", "LoKr", OFT)
FORMS = (FULL, *ADAPTERS, SINGULAR_VALUES)


@dataclass(frozen=True)
class WeightChoice:
    """What is trained, and in which form.

    rank: of the adapter; LoKr and OFT: their factor. alpha: LoRA, DoRA and LoHa are scaled by alpha / rank. OFT's
    rotation has no bound, as published. seed: of the adapters' first values. dropout: within LoRA and
    DoRA, see `AdapterDropout`. least_rank: of T-LoRA, the part of its ranks that counts in pure noise; rank_power: see
    `RankSchedule`.
    """

    scope: str
    form: str
    rank: int
    alpha: float
    seed: int
    dropout: float = 0.0
    least_rank: float = 0.5
    rank_power: float = 1.0

    @property
    def schedule(self) -> RankSchedule:
        return RankSchedule(self.rank, max(round(self.least_rank * self.rank), 1), power=self.rank_power)

    def apply(
        self,
        module: nn.Module,
        names: Iterable[str],
        compute: tuple[torch.device, torch.dtype],
        stays: Callable[[Tensor], bool],
        untouched: Iterable[nn.Module] = (),
    ) -> TrainableWeights:
        """Makes weights of a frozen copy trainable; compute, stays, untouched: as `make_trainable` takes them."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)  # the host's adapters draw from the global generator
            dropout, ranks = AdapterDropout(self.dropout), TimestepRanks()
            output = partial(_lora_output, dropout)
            if self.form == T_LORA:
                output = partial(_timestep_output, ranks, self.schedule)
            weights = make_trainable(
                module,
                names,
                form=self._form(),
                compute=compute,
                added_output=output if self.keeps_weights else None,
                stays=stays,
                changed_input=_dora_input if self.form == DORA else None,
                untouched=untouched,
            )
        return replace(weights, dropout=dropout, ranks=ranks)

    @property
    def keeps_weights(self) -> bool:
        """Whether the chosen weights themselves stay frozen and as they are stored."""
        return self.form in (LORA, DORA, T_LORA)

    def names(self, unet: nn.Module) -> list[str]:
        """Names of the chosen parameters; adapters change matrices and convolution kernels only."""
        return [
            name
            for name, weight in unet_parameters(unet).items()
            if any(mark in name for mark in _MARKS[self.scope]) and (self.form == FULL or weight.ndim > 1)
        ]

    def _form(self) -> WeightForm | None:
        if self.form == FULL:
            return None
        if self.form == SINGULAR_VALUES:
            return SingularValueShifts
        if self.form == DORA:
            return partial(WeightDecomposed, rank=self.rank, alpha=self.alpha)
        if self.form == T_LORA:
            return partial(OrthogonalLowRank, rank=self.rank)
        create: Callable[..., nn.Module] = adapter_maps[self.form].create_train
        alpha = 0.0 if self.form == OFT else self.alpha

        def adapter(weight: Tensor) -> nn.Module:
            # Of its shape alone and on the CPU, so that a seed means the same numbers on every device.
            return create(torch.empty(weight.shape), rank=self.rank, alpha=alpha)

        return adapter


def _lora_output(dropout: AdapterDropout, adapter: Any, layer: nn.Module, x: Tensor) -> Tensor:
    """Of DoRA's low-rank part, and of the host's LoRA, whose own `h` wants its weights in the precision of x."""
    output = low_rank_output(layer, x, adapter.lora_up.weight, adapter.lora_down.weight, dropout)
    return output * (adapter.alpha / adapter.rank).to(x.dtype)


def _timestep_output(
    ranks: TimestepRanks, schedule: RankSchedule, adapter: OrthogonalLowRank, layer: nn.Module, x: Tensor
) -> Tensor:
    return scheduled_output(layer, x, *adapter.pair(), mask=ranks.of(schedule))


def _dora_input(adapter: Any, layer: Any, x: Tensor) -> Tensor:
    """Rounded once it is multiplied, for the factors are near 1."""
    return (x * adapter.stretch(fetched(layer.weight, x.device, torch.float32))).to(x.dtype)
