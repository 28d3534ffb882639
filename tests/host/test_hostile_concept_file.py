"""Files that mean harm, or are broken, in Load Concept: refused with the reason, and nothing is written."""

from __future__ import annotations

import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from families.concepts import WORD, load, make_concept, make_lora, save
from PIL import Image
from safetensors.torch import save_file


def jpeg(side: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def hostile(case: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str], path: Path) -> None:
    """Writes a good file's content with one thing wrong."""
    card = "core_personalization."
    key = next(key for key in tensors if key.startswith("bundle_emb."))
    down = next(key for key in tensors if key.endswith("attn2_to_k.lora_down.weight"))
    alpha = next(key for key in tensors if key.endswith(".alpha"))
    changed_tensors: dict[str, Any] = {
        "a path for a name": {"bundle_emb.../../evil.string_to_param.*": tensors[key], key: None},
        "an absolute path for a name": {"bundle_emb./tmp/evil.string_to_param.*": tensors[key], key: None},
        "two embeddings": {"bundle_emb.other.string_to_param.*": tensors[key].clone()},
        "an unknown form": {"bundle_emb.x.y": tensors[key], key: None},
        "NaN": {down: torch.full_like(tensors[down], float("nan"))},
        "an embedding of numbers": {key: torch.ones(768)},
        "too many vectors": {key: torch.ones(76, 768)},
        "another width": {key: torch.ones(1, 1024)},
        "another shape": {down: torch.ones(2, 5)},
        "a reshaping": {down.replace("lora_down.weight", "reshape_weight"): torch.tensor([10**6, 10**6])},
        "an alpha of many": {alpha: torch.ones(3)},
        "weights of another model": {"lora_unet_nothing.lora_up.weight": torch.ones(1)},
        "no embedding": {key: None},
    }
    changed_metadata: dict[str, dict[str, str]] = {
        "no card": {"drop": card},
        "a card that is no JSON": {card + "settings": "{"},
        "a card nested too deep": {card + "settings": "[" * 100_000},
        "a card of another type": {card + "base_model": "[1]"},
        "an endless card": {card + "settings": json.dumps({"a": "x" * 300_000})},
        "markup in a prompt": {card + "super_category": json.dumps("dog (cat:9)")},
        "a preview that is no JPEG": {"modelspec.thumbnail": "data:image/jpeg;base64,AAAA"},
        "a preview of another kind": {"modelspec.thumbnail": "data:text/html;base64,AAAA"},
        "an enormous preview": {"modelspec.thumbnail": jpeg(3000)},
    }
    tensors = {k: v for k, v in {**tensors, **changed_tensors.get(case, {})}.items() if v is not None}
    change = changed_metadata.get(case, {})
    metadata = {} if "drop" in change else {**metadata, **change}
    save_file(tensors, path, metadata)
    content = path.read_bytes()
    damaged = {
        "a truncated file": content[:-100],
        "a truncated header": content[:50],
        "an empty file": b"",
        "a lying header": content[:8] + content[8:].replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1),
        "a pickle": pickle.dumps({"a": 1}),
        "a huge header": (2**40).to_bytes(8, "little") + content[8:],
    }
    path.write_bytes(damaged.get(case, content))


HOSTILE = {
    "a path for a name": "embedding_name: '../../evil' cannot be used",
    "an absolute path for a name": "embedding_name: '/tmp/evil' cannot be used",
    "two embeddings": "bundles 2 embeddings",
    "an unknown form": "an embedding in an unknown form",
    "NaN": "holds NaN or infinity",
    "an embedding of numbers": r"shapes \{'string_to_param.\*': \[768\]\}",
    "too many vectors": r"\[76, 768\]",
    "another width": "its embedding is for text encoders",
    "another shape": "does not fit the shapes of this model",
    "a reshaping": "does not fit the shapes of this model",
    "an alpha of many": "its LoRA cannot be read",
    "weights of another model": "are not of this model: 'lora_unet_nothing",
    "no embedding": "holds no embedding",
    "no card": "no card of this pack",
    "a card that is no JSON": "its card cannot be read",
    "a card nested too deep": "its card cannot be read",
    "a card of another type": "base_model of its card is a list, not a str",
    "an endless card": "settings of its card is longer than",
    "markup in a prompt": r"super-category 'dog \(cat:9\)' is not one or a few plain words",
    "a preview that is no JPEG": "its preview cannot be read",
    "a preview of another kind": "its preview cannot be read",
    "an enormous preview": "3000x3000 pixels",
    "a truncated file": "is damaged or no safetensors file",
    "a truncated header": "is damaged or no safetensors file",
    "an empty file": "is damaged or no safetensors file",
    "a lying header": "is damaged or no safetensors file",
    "a pickle": "is damaged or no safetensors file",
    "a huge header": "a header of 1099511627776 bytes",
}


@pytest.fixture(scope="module")
def good(sd1) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from core_personalization.nodes.host.safe_files import read

    concept = make_concept(sd1, "good")
    found = read(save(concept, make_lora(sd1[0]), torch.rand(1, 8, 8, 3)))
    concept.path.unlink()
    return found


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_with_the_reason_and_nothing_is_written(case, good, sd1, output_folder):
    path = output_folder / "loras" / "hostile.safetensors"
    hostile(case, *good, path)
    before = {file: file.stat().st_mtime_ns for file in output_folder.parent.rglob("*")}
    with pytest.raises(ValueError, match=HOSTILE[case]):
        load(sd1, "loras/hostile.safetensors")
    assert {file: file.stat().st_mtime_ns for file in output_folder.parent.rglob("*")} == before


def test_the_file_that_the_hostile_ones_are_made_from_is_good(good, sd1, output_folder):
    hostile("nothing wrong", *good, output_folder / "loras" / "hostile.safetensors")
    assert load(sd1, "loras/hostile.safetensors")[3] == f"embedding:good {WORD}"
