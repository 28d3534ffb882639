"""Cards on which tensors have shape, number format and device only, beside real tensors on the CPU.

torch's FakeTensor stands for everything on `cuda`. An operation is refused where CUDA would refuse it: tensors, or a
generator, of different devices. What is read of a shape is invented: ones, and zeros for integers. Whatever waits for
the card is noted, with the line of ours that made it wait. Tensors on `meta` are left alone, so that code may plan
with them.

What it cannot do: give a real tensor the memory of one on the card (`parameter.data = parameter.to("cuda")`).
`nn.Module.to` and a new parameter work.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._pytree import tree_map

CPU, META = torch.device("cpu"), torch.device("meta")
TO_HOST, TO_CARD, READ, SIZED, ALL_DONE = "copy to the CPU", "copy to the card", "item", "size by value", "synchronize"

_aten = torch.ops.aten
_INDEXING = {
    getattr(packet, overload)
    for packet in (_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_, _aten._unsafe_index)
    for overload in packet.overloads()
}


@dataclass(frozen=True)
class Wait:
    """The CPU waited for the card, or copied to or from it. file, function, line: the innermost of ours."""

    kind: str
    file: str
    function: str
    line: int
    operation: str

    @property
    def place(self) -> tuple[str, str, str]:
        return self.kind, self.file, self.function

    def __str__(self) -> str:
        return f"{self.kind} in {self.file}:{self.line} {self.function} ({self.operation})"


class ShapeOnlyCards(FakeTensorMode):
    """As a context: `cuda` tensors made in it are shapes. waits: noted since the last `waits.clear()`.

    root: of the project, whose nodes and core_ops count as ours in the lines of `waits`.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(allow_non_fake_inputs=False)
        self._root = root
        self._ours = tuple(f"{root / folder}{os.sep}" for folder in ("nodes", "core_ops"))
        self.waits: Counter[Wait] = Counter()
        self._computing = False

    @property
    def avoid_device_init(self) -> bool:
        return True  # `torch.tensor(..., device="cuda")` copies, even where torch.cuda.is_available() is true

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and its guards around every operation take time

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._computing:  # FakeTensor's own steps, in which shapes of CPU tensors occur
            return self.dispatch(func, types, args, kwargs)
        flat = _leaves(args, kwargs)
        tensors = [value for value in flat if isinstance(value, Tensor)]
        target = next((value for value in flat if isinstance(value, torch.device)), None)
        on_card = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        if not on_card and (target is None or target.type != "cuda"):
            return func(*args, **kwargs)  # real numbers, or shapes on meta
        if _is_composite(func):  # so it comes under inference mode: of other operations, which come then
            with self:
                return func.decompose(*args, **kwargs)
        if func is _aten._has_compatible_shallow_copy_type.default and len(on_card) < len(tensors):
            return False  # so that nn.Module.to makes a new parameter
        if func is _aten._to_copy.default:
            return self._copy(func, types, args, kwargs)
        if func in (_aten.copy_.default, _aten._foreach_copy_.default):
            return self._copy_into(func, types, args, kwargs)
        if func is _aten._local_scalar_dense.default:
            self.note(READ, func)
            return invented(args[0]).item()
        self._require_one_device(func, tensors, target)
        _require_generator(flat, target or on_card[0].device)
        if len(on_card) == len(tensors) and (target is None or target.type == "cuda"):
            return self._compute(func, types, args, kwargs)
        return tree_map(_real_off_card, self._compute(func, types, *tree_map(self._shaped, (args, kwargs))))

    def note(self, kind: str, operation: Any) -> None:
        frame: Any = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(self._ours):
            frame = frame.f_back
        if frame is None:
            return
        file = Path(frame.f_code.co_filename).relative_to(self._root).as_posix()
        line = frame.f_lineno
        while frame.f_code.co_name.startswith("<"):  # a comprehension, which some Pythons have in a frame of its own
            frame = frame.f_back
        self.waits[Wait(kind, file, frame.f_code.co_name, line, str(operation))] += 1

    def _compute(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Of shapes alone. A result whose shape depends on values is that of invented ones."""
        self._computing = True
        try:
            return self.dispatch(func, types, args, kwargs)
        except (DynamicOutputShapeException, DataDependentOutputException):
            self.note(SIZED, func)
            device = next(value.device for value in _leaves(args, kwargs) if isinstance(value, FakeTensor))
            real = func(*tree_map(_off_card, args), **tree_map(_off_card, kwargs))
            return tree_map(lambda value: self._shaped(value, device), real)
        finally:
            self._computing = False

    def _copy(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        source, device = args[0], kwargs.get("device") or args[0].device
        if device.type == "cpu":
            self.note(TO_HOST, func)
            return invented(source, kwargs.get("dtype"))
        if source.device.type == "meta":
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        if source.device.type == "cpu":
            self.note(TO_CARD, func)
        return tree_map(_real_off_card, self._compute(func, types, (self._shaped(source), *args[1:]), kwargs))

    def _copy_into(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """`copy_` and its list form, between any two devices."""
        pairs = list(zip(_leaves(args[:1], {}), _leaves(args[1:2], {}), strict=True))
        for target, source in pairs:
            if source.device.type == "meta":
                raise NotImplementedError("Cannot copy out of meta tensor; no data!")
            if target.device.type != source.device.type:
                self.note(TO_HOST if isinstance(source, FakeTensor) else TO_CARD, func)
        if any(isinstance(target, FakeTensor) for target, _ in pairs):
            return self._compute(func, types, *tree_map(self._shaped, (args, kwargs)))
        for target, _ in pairs:
            target.fill_(_value(target.dtype))
        return args[0]

    def _require_one_device(self, func: Any, tensors: Sequence[Tensor], target: torch.device | None) -> None:
        """As CUDA's kernels do: tensors without dimensions may come from the CPU, indices too (they are copied)."""
        if target is not None:  # zeros_like(x, device=…): the device of x says nothing
            return
        several = {tensor.device for tensor in tensors if tensor.ndim or tensor.device.type != "cpu"}
        if func in _INDEXING and isinstance(tensors[0], FakeTensor):
            if CPU in several:
                self.note(TO_CARD, func)
            several.discard(CPU)
        if len(several) > 1:
            found = " and ".join(sorted(map(str, several)))
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {found} in {func}")

    def _shaped(self, value: Any, device: torch.device | None = None) -> Any:
        """The shape of a tensor that is none yet; on `device`, or else where it was."""
        if not isinstance(value, Tensor) or isinstance(value, FakeTensor):
            return value
        shape: Any = self.from_tensor(value)
        return shape if device is None else FakeTensor(self, torch.empty_like(value, device=META), device)


@functools.cache
def _is_composite(func: Any) -> bool:
    return func.namespace == "aten" and torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), "CompositeImplicitAutograd"
    )


def _leaves(args: Any, kwargs: dict[str, Any]) -> list[Any]:
    """All values, those in lists too. Arguments are nested no deeper, and pytree's leaves take their time."""
    flat: list[Any] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, list | tuple):
            flat += value
        else:
            flat.append(value)
    return flat


def _require_generator(flat: Sequence[Any], device: torch.device) -> None:
    for value in flat:
        if isinstance(value, torch.Generator) and value.device.type != device.type:
            raise RuntimeError(f"Expected a '{device.type}' device type for generator but found '{value.device.type}'")


def invented(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """What is read of a shape: ones, so that shares and scales can be formed; integers are places, so zeros."""
    dtype = dtype or tensor.dtype
    return torch.full(tensor.shape, _value(dtype), dtype=dtype)


def _value(dtype: torch.dtype) -> int:
    return int(dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def _off_card(value: Any) -> Any:
    return invented(value) if isinstance(value, FakeTensor) else value


def _real_off_card(value: Any) -> Any:
    """What an operation made elsewhere than on a card: `zeros_like(x, device="cpu")`, `x.to("meta")`."""
    if not isinstance(value, FakeTensor) or value.device.type == "cuda":
        return value
    if value.device.type == "cpu":
        return invented(value)
    return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=META)
