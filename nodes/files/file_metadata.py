"""What a file says about itself: fields that other programs read, and our own."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from torch import Tensor

from . import safe_files

SPECIFICATION = "1.0.1"
PREFIX = "core_personalization."

Form = Literal["textual-inversion", "lora", "model"]


def metadata(form: Form, name: str, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> dict[str, str]:
    """sai_model_spec fields, what other tools show of a training (ss_*), and the card's entries in JSON.

    card: at least architecture (perhaps "", unknown), base_model, resolution, phrase and steps_done.
    """
    phrase, architecture = card["phrase"], card["architecture"] + ("" if form == "model" else f"/{form}")
    specification = {
        "modelspec.sai_model_spec": SPECIFICATION,
        **({"modelspec.architecture": architecture} if card["architecture"] else {}),
        "modelspec.implementation": "https://github.com/comfyanonymous/ComfyUI",
        "modelspec.title": name,
        "modelspec.resolution": f"{card['resolution']}x{card['resolution']}",
        "modelspec.date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "modelspec.hash_sha256": safe_files.tensor_hash(tensors),
        "modelspec.trigger_phrase": phrase,
        "modelspec.usage_hint": f"Write {phrase} in a prompt where the concept goes.",
        "ss_sd_model_name": card["base_model"],
        "ss_base_model_version": card["architecture"],
        "ss_steps": str(card["steps_done"]),
        "ss_output_name": name,
    }
    ranks = [tensor.shape[0] for key, tensor in tensors.items() if key.endswith(".lora_down.weight")]
    if form == "lora" and ranks:  # as kohya's trainers say it; small layers may have a lower rank
        alphas = [float(tensor) for key, tensor in tensors.items() if key.endswith(".alpha")]
        decomposed = any(key.endswith(".dora_scale") for key in tensors)
        specification |= {
            "ss_network_module": "lycoris.kohya" if decomposed else "networks.lora",
            "ss_network_dim": str(max(ranks)),
            "ss_network_alpha": str(max(alphas, default=float(max(ranks)))),
        }
    elif form == "lora" and any(key.startswith("lora_") for key in tensors):
        specification["ss_network_module"] = "lycoris.kohya"
    return specification | {f"{PREFIX}{key}": json.dumps(value) for key, value in card.items()}


def read_card(path: Path) -> dict[str, Any]:
    """The card's entries in a file of this pack, from its header alone; none of any other file."""
    try:
        return card_in(safe_files.read_metadata(path))
    except (OSError, SafetensorError):
        return {}


def card_in(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The card's entries in a file's metadata; none where they are none of this pack's."""
    try:
        return {key.removeprefix(PREFIX): json.loads(text) for key, text in metadata.items() if key.startswith(PREFIX)}
    except (ValueError, RecursionError):
        return {}


@cache
def pack_version() -> str:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    return match.group(1) if match else "unknown"
