"""Which weights of a frozen network are trained, and in which form: themselves, or through an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .singular_value_shifts import SingularValueShifts

WeightForm = Callable[[Tensor], nn.Module]
"""A weight as it is, in fp32 → a module that maps it to the trained weight and holds what is trained, in fp32."""


@dataclass(frozen=True)
class TrainableWeights:
    """parameters: every trained tensor by name, in fp32. adapters: by the path of the weight that they change."""

    module: nn.Module
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    adapters: dict[str, nn.Module] = field(default_factory=dict)

    def add_full(self, name: str, dtype: torch.dtype) -> None:
        """Trains the weight itself: a master copy in fp32, computed with in `dtype`."""
        owner, attribute = _owner(self.module, name)
        master = nn.Parameter(getattr(owner, attribute).detach().to(torch.float32, copy=True))
        setattr(owner, attribute, master)
        if dtype != torch.float32:
            parametrize.register_parametrization(owner, attribute, _Cast(dtype), unsafe=True)  # keeps the master
        self.parameters[name] = master

    def add_adapter(self, name: str, form: WeightForm) -> None:
        """Trains an adapter of a weight, which stays as it is under it."""
        owner, attribute = _owner(self.module, name)
        adapter = form(getattr(owner, attribute).detach().float())
        parametrize.register_parametrization(owner, attribute, adapter, unsafe=True)
        self.adapters[name] = adapter
        path = name.rpartition(".")[0]
        trained = {f"{path}.{key}": value for key, value in adapter.named_parameters() if value.requires_grad}
        self.parameters.update(trained)

    @property
    def replaces_weights(self) -> bool:
        """Whether the trained weights stand in place of the old ones; else the adapters say it all."""
        return all(isinstance(adapter, SingularValueShifts) for adapter in self.adapters.values())

    def values(self) -> dict[str, Tensor]:
        """The trained weights as they are now, by name, in fp32; those under an adapter with it applied."""
        if not self.adapters:
            return {name: parameter.detach() for name, parameter in self.parameters.items()}
        return {name: self._adapted(name) for name in self.adapters}

    @torch.no_grad()
    def _adapted(self, name: str) -> Tensor:
        owner, attribute = _owner(self.module, name)
        original: Tensor = owner.parametrizations[attribute].original  # type: ignore[index, union-attr]
        return self.adapters[name](original.float())


def make_trainable(
    module: nn.Module, names: Iterable[str], form: WeightForm | None, dtype: torch.dtype
) -> TrainableWeights:
    """Makes the parameters `names` of a frozen `module` trainable, and the rest compute in `dtype`.

    form: the adapter; None trains the weights themselves.
    """
    weights = TrainableWeights(module)
    for name in names:
        if form is None:
            weights.add_full(name, dtype)
        else:
            weights.add_adapter(name, form)
    cast_frozen(module, dtype)
    return weights


def cast_frozen(module: nn.Module, dtype: torch.dtype) -> None:
    """Turns all parameters that are not trained to `dtype`."""
    adapters = {
        p for m in module.modules() if isinstance(m, parametrize.ParametrizationList) for p in m[0].parameters()
    }
    for parameter in module.parameters():
        if not parameter.requires_grad and parameter not in adapters:
            parameter.data = parameter.data.to(dtype)


class _Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, weight: Tensor) -> Tensor:
        return weight.to(self.dtype)


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return module.get_submodule(path), attribute
