"""Which weights of a frozen network are trained, and in which form: themselves, or through an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .adapter_dropout import AdapterDropout
from .stored_weights import cast_frozen, fetched
from .timestep_rank import TimestepRanks

WeightForm = Callable[[Tensor], nn.Module]
"""A weight as it is, in fp32 → a module that maps it to the trained weight and holds what is trained, in fp32."""
AddedOutput = Callable[[nn.Module, nn.Module, Tensor], Tensor]
"""Such a module, its layer, and the layer's input → what the layer's output gains by it."""
ChangedInput = Callable[[nn.Module, nn.Module, Tensor], Tensor]
"""The same → what the layer, and the added output, take in its place."""


@dataclass(frozen=True)
class TrainableWeights:
    """parameters: every trained tensor by name, in fp32. adapters: by the path of the weight that they change.

    device, dtype: where and in which format the module computes. dropout, ranks: of the adapters.
    """

    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    adapters: dict[str, nn.Module] = field(default_factory=dict)
    dropout: AdapterDropout = field(default_factory=AdapterDropout)
    ranks: TimestepRanks = field(default_factory=TimestepRanks)

    def add_full(self, name: str) -> None:
        """Trains the weight itself: a master copy in fp32."""
        owner, attribute = _owner(self.module, name)
        stored = getattr(owner, attribute).detach()
        master = fetched(stored, self.device, torch.float32)
        master = nn.Parameter(master.clone() if master is stored else master)
        setattr(owner, attribute, master)
        if self.dtype != torch.float32:
            parametrize.register_parametrization(owner, attribute, _Cast(self.dtype), unsafe=True)  # keeps the master
        self.parameters[name] = master

    def add_adapter(
        self,
        name: str,
        form: WeightForm,
        added_output: AddedOutput | None = None,
        changed_input: ChangedInput | None = None,
    ) -> None:
        """Trains an adapter of a weight, which stays as it is under it.

        added_output: the adapter works on the layer's input and output; without it, on the weight.
        """
        owner, attribute = _owner(self.module, name)
        stored = getattr(owner, attribute).detach()
        adapter = form(fetched(stored, self.device, torch.float32)).to(self.device)
        if added_output is None:
            setattr(owner, attribute, nn.Parameter(fetched(stored, self.device, self.dtype), requires_grad=False))
            parametrize.register_parametrization(owner, attribute, adapter, unsafe=True)
        else:

            def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
                return output + added_output(adapter, layer, inputs[0])

            owner.register_forward_hook(hook)  # takes what the other hook makes of the input
            if changed_input is not None:
                owner.register_forward_pre_hook(lambda layer, inputs: changed_input(adapter, layer, inputs[0]))
        self.adapters[name] = adapter
        path = name.rpartition(".")[0]
        trained = {f"{path}.{key}": value for key, value in adapter.named_parameters() if value.requires_grad}
        self.parameters.update(trained)

    @property
    def replaces_weights(self) -> bool:
        """Whether the trained weights stand in place of the old ones; else the adapters say it all."""
        return all(isinstance(adapter, SingularValueShifts) for adapter in self.adapters.values())

    @property
    def beside(self) -> list[Tensor]:
        """Frozen tensors that are no part of the module: of adapters that work on a layer's output."""
        within = set(self.module.modules())
        apart = [adapter for adapter in self.adapters.values() if adapter not in within]
        frozen = [value for adapter in apart for value in adapter.parameters() if not value.requires_grad]
        return [*frozen, *(value for adapter in apart for value in adapter.buffers())]

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """Names and trained weights as they are now, in fp32; those under an adapter with it applied, made one at a
        time."""
        if not self.adapters:
            yield from ((name, parameter.detach()) for name, parameter in self.parameters.items())
        yield from ((name, self._adapted(name)) for name in self.adapters)

    @torch.no_grad()
    def _adapted(self, name: str) -> Tensor:
        owner, attribute = _owner(self.module, name)
        under: Any = owner.parametrizations if parametrize.is_parametrized(owner, attribute) else None
        original = getattr(owner, attribute) if under is None else under[attribute].original
        return self.adapters[name](fetched(original, self.device, torch.float32))


def make_trainable(
    module: nn.Module,
    names: Iterable[str],
    form: WeightForm | None,
    compute: tuple[torch.device, torch.dtype],
    added_output: AddedOutput | None = None,
    stays: Callable[[Tensor], bool] | None = None,
    changed_input: ChangedInput | None = None,
    untouched: Iterable[nn.Module] = (),
) -> TrainableWeights:
    """Makes the parameters `names` of a frozen `module` trainable, and the rest compute in one number format.

    form: the adapter; None trains the weights themselves. compute: the device and the format. added_output,
    changed_input: as in `TrainableWeights.add_adapter`. stays: which frozen weights of linear and convolution layers
    stay as stored. untouched: modules whose weights do.
    """
    weights = TrainableWeights(module, *compute)
    for name in names:
        if form is None:
            weights.add_full(name)
        else:
            weights.add_adapter(name, form, added_output, changed_input)
    cast_frozen(module, weights.dtype, stays or (lambda _: False), untouched)
    return weights


class _Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, weight: Tensor) -> Tensor:
        return weight.to(self.dtype)


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return module.get_submodule(path), attribute


class SingularValueShifts(nn.Module):
    """SVDiff's form of a trained weight (Han et al. 2023, Eq. 2): W_δ = U diag(ReLU(σ + δ)) Vᵀ, with only δ trained.

    weight: [out, in] or a convolution's [out, in, kh, kw], whose kernel is flattened to [out, in·kh·kw].
    """

    u: Tensor
    sigma: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        u, sigma, v = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        self.register_buffer("u", u)
        self.register_buffer("sigma", sigma)
        self.register_buffer("v", v)
        self.delta = nn.Parameter(torch.zeros_like(sigma))

    def forward(self, weight: Tensor) -> Tensor:
        shifted = self.u * torch.relu(self.sigma + self.delta) @ self.v
        return shifted.reshape(weight.shape).to(weight.dtype)
