"""Which model weights are, whatever number format they were loaded in: a fingerprint of biases and norms.

They are a thousandth of the weights, and tell fine-tunes apart. A fingerprint is text: a SHA-256 of all of them and of
what else is said of the model, one of the latter, the coarsest number format that holds them all, and some of them.
Where formats differ, those are compared as closely as the coarser one allows.

Leans on `ModelPatcher.backup`, the same since 0.28.0.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

FORMATS = {name: getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2", "bfloat16", "float16")}
"""From coarse to fine; fp32 counts as fp16, in which the SHA-256 is."""
COMPARED = 64
"""Numbers of a model."""


def fingerprint(
    module: torch.nn.Module, backup: Mapping[str, Any], prefix: str = "", *also: str, dtype: torch.dtype = torch.float16
) -> str:
    """backup: what the host has of weights that it patched in place, by name after `prefix`. dtype: for the SHA-256."""
    small = _biases(module, backup, prefix)
    digest = hashlib.sha256()
    for name, weight in small.items():
        digest.update(name.encode() + weight.to(dtype).view(torch.uint8).numpy().tobytes())
    numbers = torch.cat([*small.values(), torch.zeros(0)])
    chosen = numbers[torch.linspace(0, len(numbers) - 1, min(COMPARED, len(numbers))).round().long()]
    text = base64.b64encode(chosen.half().numpy().tobytes()).decode()
    if not also:
        return " ".join((digest.hexdigest(), _format(numbers), text))
    return " ".join((digest_of(digest.hexdigest(), *also), digest_of(*also), _format(numbers), text))


def digest_of(*parts: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def same_model(one: str, other: str) -> bool:
    """Of two fingerprints; earlier versions of the pack wrote the SHA-256 alone."""
    (sha, *rest), (other_sha, *other_rest) = one.split() or [""], other.split() or [""]
    if len(rest) < 2 or len(rest) != len(other_rest):
        return sha == other_sha
    *also, dtype, numbers = rest
    *other_also, other_dtype, other_numbers = other_rest
    if also != other_also:
        return False
    return sha == other_sha or (dtype != other_dtype and _close(numbers, other_numbers, {dtype, other_dtype}))


def _biases(module: torch.nn.Module, backup: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """Biases and norms on the CPU, by name, without the patches that the host applied in place."""
    found: dict[str, Tensor] = {}
    for name, weight in module.named_parameters():
        if weight.ndim == 1:
            kept = backup.get(prefix + name)
            found[name] = (weight if kept is None else kept.weight).detach().to("cpu", torch.float32, copy=True)
    return found


def _format(numbers: Tensor) -> str:
    """The first of `FORMATS` that holds all of them exactly, else the last."""
    fitting = (name for name, dtype in FORMATS.items() if torch.equal(numbers.to(dtype).float(), numbers))
    return next(fitting, "float16")


def _close(one: str, other: str, formats: set[str]) -> bool:
    """Whether two texts of `fingerprint` hold the same numbers, each rounded to a format of its own, and to fp16."""
    a, b = (
        torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype=np.float16).copy()).float()
        for text in (one, other)
    )
    if a.shape != b.shape:
        return False
    rounding = [torch.finfo(FORMATS.get(name, torch.float16)) for name in (*formats, "float16")]
    relative, absolute = sum(each.eps / 2 for each in rounding), sum(each.tiny * each.eps / 2 for each in rounding)
    return bool(((a - b).abs() <= relative * torch.maximum(a.abs(), b.abs()) + absolute).all())
