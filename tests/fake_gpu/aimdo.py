"""ComfyUI's dynamic VRAM on the pretended card: comfy-aimdo's classes, as far as ComfyUI calls them, in Python.

The real ones are a library around the CUDA driver, whose virtual memory the card does not have. Call `imitate` after
ComfyUI's modules can be imported and before a model is loaded.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Any

import numpy as np

Allocation = tuple[Any, int, int]
"""Whose it is, its address, its bytes."""

_runtime = ctypes.CDLL(None)  # The card's, which is preloaded (runtime.cpp).
_TYPES = {
    "fake_gpu_reserve": ([ctypes.c_size_t], ctypes.c_void_p),
    "fake_gpu_unreserve": ([ctypes.c_void_p], None),
    "fake_gpu_commit": ([ctypes.c_size_t], ctypes.c_bool),
    "fake_gpu_decommit": ([ctypes.c_size_t], None),
}

ALIGNMENT = 512
GONE = 0xFF
"""What is written over weights that were put off the card: who still looks at them sees NaN."""

_vbars: weakref.WeakSet[ModelVBAR] = weakref.WeakSet()


class ModelVBAR:
    """A range of the card's addresses for one model's weights; each has memory behind it once it was asked for."""

    def __init__(self, size: int, device: int) -> None:
        self.base_addr = _runtime.fake_gpu_reserve(int(size))
        self.max_size, self.device = int(size), device
        self.offset, self._faults = 0, 0
        self._resident: dict[tuple[int, int], int] = {}
        """(address, bytes) → at which fault it came."""
        self._pinned: set[tuple[int, int]] = set()
        _vbars.add(self)

    def __del__(self) -> None:
        _runtime.fake_gpu_decommit(self.loaded_size())
        _runtime.fake_gpu_unreserve(self.base_addr)

    def alloc(self, bytes: int) -> Allocation:
        self.offset = -(-self.offset // ALIGNMENT) * ALIGNMENT
        if self.offset + bytes > self.max_size:
            raise MemoryError("VBAR OOM")
        address = self.base_addr + self.offset
        self.offset += bytes
        return self, address, bytes

    def fault(self, address: int, bytes: int) -> ctypes.Array[Any] | None:
        """Pins the weight; None where the card is full. Another signature than last time: what lay there is gone."""
        key = (address, bytes)
        if key not in self._resident:
            if not _runtime.fake_gpu_commit(bytes):
                return None
            self._faults += 1
            self._resident[key] = self._faults
        self._pinned.add(key)
        return (ctypes.c_uint32 * 1)(self._resident[key])

    def unpin(self, address: int, bytes: int) -> None:
        self._pinned.discard((address, bytes))

    def loaded_size(self) -> int:
        return sum(bytes for _, bytes in self._resident)

    def freeable_size(self) -> int:
        return sum(bytes for _, bytes in self._resident.keys() - self._pinned)

    def free_memory(self, bytes: int) -> int:
        freed = 0
        for key in [key for key in self._resident if key not in self._pinned]:
            if freed >= bytes:
                break
            ctypes.memset(key[0], GONE, key[1])
            _runtime.fake_gpu_decommit(key[1])
            del self._resident[key]
            freed += key[1]
        return freed

    def prioritize(self, *_: Any) -> None: ...
    def deprioritize(self) -> None: ...
    def set_watermark_limit(self, size_bytes: int) -> None: ...
    def set_watermark(self, size_bytes: int) -> None: ...

    def get_nr_pages(self) -> int:
        return 1

    def get_watermark(self) -> int:
        return 1

    def get_residency(self) -> list[int]:
        return [1]


class VRAMBuffer:
    """Room on the card, grown as it is asked for, through which weights pass that find no place."""

    def __init__(self, max_size: int, device: int) -> None:
        self.base_addr = _runtime.fake_gpu_reserve(int(max_size))
        self.max_size, self._allocated = int(max_size), 0

    def __del__(self) -> None:
        _runtime.fake_gpu_decommit(self._allocated)
        _runtime.fake_gpu_unreserve(self.base_addr)

    def size(self) -> int:
        return self._allocated

    def get(self, size: int, offset: int = 0) -> Allocation:
        missing = int(offset) + int(size) - self._allocated
        if missing > 0:
            if not _runtime.fake_gpu_commit(missing):
                raise RuntimeError(f"VRAM grow failed: {missing} bytes")
            self._allocated += missing
        return self, self.base_addr + int(offset), int(size)


class HostBuffer:
    """Host memory that grows in place."""

    def __init__(self, size: int, prewarm: int = 0, max_grow_size: int = 0, mark_cold: bool = True) -> None:
        self.size, self._capacity = int(size), max(int(size), int(max_grow_size), mmap.PAGESIZE)
        self._memory = mmap.mmap(-1, self._capacity)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def get_raw_address(self) -> int:
        return self._address

    def extend(self, size: int, reallocate: bool = False, register: bool = True) -> int:
        if self.size + size > self._capacity:
            raise RuntimeError("HostBuffer.extend failed")
        self.size += int(size)
        return self._address + self.size - int(size)

    def read_file_slice(
        self,
        file: Any,
        file_offset: int,
        size: int,
        offset: int = 0,
        stream: Any = 0,
        device_ptr: int = 0,
        device: int = -1,
    ) -> None:
        for address in filter(None, (self._address + offset, device_ptr)):
            read_file_to_device(file, file_offset, size, stream, address, device)
        self.size = max(self.size, offset + size)

    def truncate(self, size: int, do_unregister: bool = True) -> None:
        self.size = int(size)

    def register(self, offset: int, size: int) -> None: ...
    def unregister(self, offset: int) -> None: ...


class ModelMMAP:
    """A checkpoint's file in memory."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self._view = np.frombuffer(
            mmap.mmap(self._file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ), dtype=np.uint8
        )

    def __del__(self) -> None:
        os.close(self._file)

    def get(self) -> int:
        return self._view.ctypes.data

    def get_file_handle(self) -> int:
        return self._file

    def bounce(self) -> bool:
        return True


def read_file_to_device(
    file: Any, file_offset: int, size: int, stream: Any, device_ptr: int, device: int, mark_cold: bool = True
) -> None:
    handle = file if isinstance(file, int) else file.fileno()
    ctypes.memmove(device_ptr, os.pread(handle, size, file_offset), size)


def imitate() -> None:
    """ComfyUI finds these in comfy-aimdo's place, and loads models as it does where dynamic VRAM is on."""
    for name, (arguments, result) in _TYPES.items():
        function = getattr(_runtime, name)
        function.argtypes, function.restype = arguments, result
    import comfy.memory_management
    import comfy.model_patcher
    import comfy_aimdo.control
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_mmap
    import comfy_aimdo.model_vbar
    import comfy_aimdo.vram_buffer

    replaced = {
        comfy_aimdo.model_vbar: {
            "ModelVBAR": ModelVBAR,
            "vbars_reset_watermark_limits": lambda: None,
            "vbars_analyze": lambda device=None: sum(vbar.freeable_size() for vbar in _vbars),
        },
        comfy_aimdo.host_buffer: {
            "HostBuffer": HostBuffer,
            "read_file_to_device": read_file_to_device,
            "cleanup_file_reader": lambda: None,
        },
        comfy_aimdo.vram_buffer: {"VRAMBuffer": VRAMBuffer},
        comfy_aimdo.model_mmap: {"ModelMMAP": ModelMMAP},
        comfy_aimdo.control: {"analyze": lambda: None, "get_total_vram_usage": lambda: 0},
    }
    for module, members in replaced.items():
        for name, member in members.items():
            setattr(module, name, member)
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
