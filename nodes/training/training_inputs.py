"""What all training nodes check before any long work: captions, and the state that a run continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...core_ops.prompts.prompt_templates import validate_template
from ..files import concept_files


@dataclass(frozen=True)
class HostModels:
    """The host's objects as a node receives them."""

    model: Any
    clip: Any
    vae: Any


def caption_templates(captions: Sequence[str] | None, pictures: int, default: str) -> list[str]:
    """One caption template per picture: a list, a text with one line per picture, or the default for all."""
    lines = [line.strip() for text in captions or () for line in text.splitlines() if line.strip()]
    for template in lines or [default]:
        validate_template("captions" if lines else "caption_template", template)
    if not lines:
        return [default] * pictures
    if len(lines) != pictures:
        raise ValueError(f"captions: {len(lines)} came for {pictures} images; give one line per image, or none at all.")
    return lines


FREE_TO_CHANGE = (
    "steps", "overwrite", "preview_every", "save_every", "resume_from", "gradient_checkpointing", "fused_backward",
    "checkpointing_levels", "offload",
)  # fmt: skip
"""Settings that a resumed run may have other values of."""


def fingerprint(settings: Mapping[str, Any], texts: Sequence[str], tensors: Sequence[Tensor | None]) -> str:
    """SHA-256 in hex of all that a resumed run must share with the run it continues."""
    shared = {key: value for key, value in settings.items() if key not in FREE_TO_CHANGE}
    digest = hashlib.sha256(json.dumps([shared, *texts], sort_keys=True).encode())
    for tensor in tensors:
        digest.update(b"" if tensor is None else tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def resumed_state(resume_from: str, state_name: str, expected: str, steps: int) -> dict[str, Any] | None:
    """The saved state that `resume_from` asks for, None without one; raises ValueError when it does not fit."""
    if not resume_from:
        return None
    state = concept_files.load_state(state_name)
    _validate_form(resume_from, state)
    if state["fingerprint"] != expected:
        raise ValueError(
            f"resume_from: {resume_from!r} was saved with another model, other settings, pictures or "
            "captions; use the same (name, steps, preview, saving may change), or leave resume_from empty to start."
        )
    done = state["loop"]["step"]
    if done > steps:  # all done is well: saving may have failed
        raise ValueError(f"resume_from: {resume_from!r} has {done} steps done already; set steps to that or more.")
    return state


def _validate_form(resume_from: str, state: Any) -> None:
    """Raises ValueError unless `state` has the parts that a run saves; the loop looks at its own."""
    loop, losses = (state.get(key) if isinstance(state, dict) else None for key in ("loop", "losses"))
    curves = losses.values() if isinstance(losses, dict) else [None]
    if (
        not isinstance(loop, dict)
        or type(loop.get("step")) is not int
        or loop["step"] < 0
        or not isinstance(state.get("fingerprint"), str)
        or not all(isinstance(curve, list) and all(type(v) in (int, float) for v in curve) for curve in curves)
    ):
        raise ValueError(f"resume_from: {resume_from!r} is not a state that this node saved; start anew.")
