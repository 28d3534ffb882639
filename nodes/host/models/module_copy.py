"""Copies of the host's networks that autograd can work with, on the device that a training computes on.

The host loads weights under inference mode, which makes them inference tensors: no graph may pass through them, even
frozen. A copy holds ordinary tensors. Each weight is read as the host would load it, with the MODEL's patches (LoRA and
the like) applied, straight to its place: however the host keeps its own (in main memory, on a device, in dynamic VRAM,
with --novram), there is one copy on the device and nothing that the host has lost sight of. A weight that is there
already, and unpatched, is not copied: the copy lies on its memory. So nothing may write into a copy's weights; what is
trained is copied first.

Losses, trained vectors and the text encoder's arithmetic are always fp32. `dtype_for` says which number format a
U-Net's copy computes in, `stays_stored` which of its weights keep the format that they are stored in.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....core_ops.training.memory_estimate import storage_bytes
from ....core_ops.weights.stored_weights import is_quantised

Place = Callable[[str], torch.device]
"""Name of a weight within the copied module → where it shall lie."""

_DYNAMIC_VRAM = (
    "_v", "_v_signature", "_v_weight", "_v_bias", "_pins", "_pin_state", "_prefetch", "dynamic_vbars", "dynamic_pins",
    "dynamic_patchers", "weight_lowvram_function", "bias_lowvram_function",
)  # fmt: skip
"""What the host's dynamic VRAM notes on modules: of its own weights, so a copy must not have it."""


@contextmanager
def autograd_mode() -> Iterator[None]:
    """Gradients on, inside a node that the host runs under inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def validate_copyable(name: str, patcher: ModelPatcher) -> None:
    """Raises ValueError, beginning with the input's name, for what the host adds only while it samples, and for weights
    that the host does not patch itself."""
    if patcher.injections or patcher.forced_hooks:
        added = ", ".join(patcher.injections) or "scheduled LoRA hooks"
        raise ValueError(
            f"{name}: it carries {added}, which ComfyUI adds only while it samples; this node would not see it. "
            "Connect it as it was before, or apply a LoRA with the node Load LoRA."
        )
    if "return_weight" not in inspect.signature(patcher.patch_weight_to_device).parameters:
        raise ValueError(
            f"{name}: its loader keeps weights in a form of its own (GGUF, for example), which cannot be copied; load "
            "the model from a safetensors file."
        )


def frozen_copy(weights: HostWeights, place: Place) -> nn.Module:
    """A frozen copy of a network, patches applied. place: the `meta` device for shapes alone.

    The host unloads the model first, and loads it again when it needs it.
    """
    with torch.inference_mode(False), weights.objects_patched():
        duplicate = copy.deepcopy(weights.module, weights.placed(place))
        for module in duplicate.modules():
            for name in _DYNAMIC_VRAM:
                module.__dict__.pop(name, None)
            if hasattr(module, "layout_type"):  # by which a quantised layer rounds its inputs, on cards with fp8
                module.layout_type = None
    return duplicate.requires_grad_(False).eval()


class HostWeights:
    """The weights of a patcher's model, or of one attribute of it such as "diffusion_model", by their names in that."""

    def __init__(self, patcher: ModelPatcher, submodule: str = "") -> None:
        self._patcher, self._submodule = patcher, submodule
        self._prefix = f"{submodule}." if submodule else ""

    @property
    def module(self) -> nn.Module:
        return getattr(self._patcher.model, self._submodule) if self._submodule else self._patcher.model

    @contextmanager
    def objects_patched(self) -> Iterator[None]:
        """Unloaded, with parts of the model replaced as the patcher asks for it."""
        self.have_unloaded()
        self._patcher.patch_model(load_weights=False)
        try:
            with self._patcher.use_ejected():
                yield
        finally:
            self._patcher.unpatch_model(unpatch_weights=False)

    def placed(self, place: Place) -> dict[int, Any]:
        """What deepcopy takes in place of copying, by the `id` of what is replaced."""
        noted = [module.__dict__.get(name) for module in self.module.modules() for name in _DYNAMIC_VRAM]
        memo: dict[int, Any] = {id(value): None for value in noted if not isinstance(value, int | float | None)}
        for name, parameter in self.module.named_parameters():
            memo[id(parameter)] = nn.Parameter(self.read(name, place(name)), requires_grad=False)
        for name, buffer in self.module.named_buffers():
            memo[id(buffer)] = _ordinary(buffer.to(place(name), copy=True))
        return memo

    def read(self, name: str, device: torch.device) -> torch.Tensor:
        """One weight with its patches, as an ordinary tensor to be read only; the model must not be loaded."""
        key = self._prefix + name
        if device.type == "meta":
            own = self.module.get_parameter(name)
            dtype = torch.int8 if is_quantised(own) else self.stored_dtype(name)
            return torch.empty(own.shape, dtype=dtype, device=device)
        with torch.inference_mode():
            to = self._patcher.load_device if key in self._patcher.patches else device
            weight = self._patcher.patch_weight_to_device(key, device_to=to, return_weight=True)
            if weight.is_meta:  # in no file: the host makes zeros of it when it first computes
                weight = torch.zeros(weight.shape, dtype=weight.dtype)
            weight = weight.to(device) if is_quantised(weight) else weight.to(device, self.stored_dtype(name))
        return _ordinary(weight, copied=self._patcher.weight_inplace_update)

    def stored_dtype(self, name: str) -> torch.dtype:
        """The number format that the host computes a weight from; dynamic VRAM keeps the file's own in main memory."""
        path, _, attribute = name.rpartition(".")
        noted = getattr(self.module.get_submodule(path), f"{attribute}_comfy_model_dtype", None)
        return noted or self.module.get_parameter(name).dtype

    def lies_at(self, name: str, device: torch.device) -> bool:
        """Whether a copy of this weight on `device` lies on the host's memory."""
        own = self.module.get_parameter(name)
        there = own.device == device and own.dtype == self.stored_dtype(name)
        patched = self._prefix + name in self._patcher.patches or self._patcher.weight_inplace_update
        return there and not (is_quantised(own) or patched)

    def have_unloaded(self) -> None:
        """Has the host take back what it has patched, so that weights are as the file has them, and free the device."""
        loaded = comfy.model_management.current_loaded_models
        others = [entry for entry in loaded if entry.model is None or not self._patcher.is_clone(entry.model)]
        with torch.inference_mode():
            for device in {entry.device for entry in loaded if entry not in others}:  # a clone may have another
                comfy.model_management.free_memory(1e30, device, keep_loaded=others)


def copied_bytes(duplicate: nn.Module, weights: HostWeights, device: torch.device) -> int:
    """Bytes of frozen weights that a copy takes on `device`, in blocks of its allocator; what lies on the host's memory
    takes none. A copy on the meta device counts as if it were there."""
    own = dict(weights.module.named_parameters())

    def taken(name: str, weight: torch.Tensor) -> bool:
        elsewhere = weight.device.type not in ("meta", device.type)
        as_stored = name in own and weight.dtype == own[name].dtype
        return not (weight.requires_grad or elsewhere or (as_stored and weights.lies_at(name, device)))

    copied = [weight for name, weight in duplicate.named_parameters() if taken(name, weight)]
    return storage_bytes([*copied, *duplicate.buffers()])


def _ordinary(tensor: torch.Tensor, copied: bool = False) -> torch.Tensor:
    """A tensor that may come from inference mode as one that autograd works with, on the same memory if it can be."""
    with torch.inference_mode(False):
        if copied or is_quantised(tensor):
            return tensor.detach().clone()
        view = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return view.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def autograd_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """An ordinary tensor with the content of one that may come from inference mode."""
    with torch.inference_mode(False):
        return tensor.clone()


PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_for(precision: str, device: torch.device, loaded: torch.dtype | None = None) -> torch.dtype:
    """The format a precision setting means on a device.

    "auto" takes the one that the host computes this model in (loaded) where that is a half that the device has, else
    bf16 where the hardware multiplies it natively, else fp32. Raises ValueError for fp16 on a CPU, where it has no fast
    or complete arithmetic.
    """
    if precision == "auto":
        if loaded == torch.float16 and device.type != "cpu":
            return torch.float16
        return torch.bfloat16 if _has_native_bf16(device) else torch.float32
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision: fp16 needs a GPU; choose auto, fp32 or bf16 on a CPU.")
    return _DTYPES[precision]


def validate_precision(precision: str) -> None:
    """Raises ValueError where the device that models are loaded on has no such format."""
    dtype_for(precision, comfy.model_management.get_torch_device())


def computed_dtype(model: ModelPatcher) -> torch.dtype | None:
    """The format in which the host computes a MODEL, whichever its weights are stored in."""
    cast = getattr(model.model, "manual_cast_dtype", None)
    return cast or model.model_dtype()


def stays_stored(weight: Tensor, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a frozen weight stays as it is stored and is cast for each product.

    Eight bits do, and on a GPU halves that are computed with in fp32, and what lies in main memory. On a CPU, where
    memory is plenty, halves are cast once. device, dtype: where and in which format it is computed with.
    """
    eight_bits = is_quantised(weight) or weight.dtype.itemsize == 1
    if device.type == "cpu":
        return eight_bits
    return eight_bits or weight.device.type == "cpu" or weight.dtype.itemsize < dtype.itemsize


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        matrix_unit = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return bool(matrix_unit())
    return False
