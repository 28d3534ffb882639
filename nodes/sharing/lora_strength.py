"""The input `strength` of nodes that load a LoRA."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.latest import io

from ...core_ops.quoting import quoted
from ..labels import LABELS


def strength_input(tooltip: str) -> io.Input:
    return io.Float.Input(
        "strength", display_name=LABELS["strength"], default=1.0, min=-100.0, max=100.0, step=0.01, tooltip=tooltip
    )


def validate_strength(strength: Any) -> None:
    """Raises ValueError for what a workflow's file, or a link, may bring."""
    if not isinstance(strength, (int, float)) or not math.isfinite(strength):
        raise ValueError(f"strength: {quoted(strength)} is not a number to multiply by; give one, such as 1.")
