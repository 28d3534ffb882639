"""Files that mean harm, or are broken, in Load Concept: refused with the reason, and nothing is written."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from core_personalization.nodes.files.safe_files import read
from families.concepts import WORD, load, make_concept, make_lora, save
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]


def jpeg(side: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def one(dtype: str, shape: list[int], size: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


def whole(header: Any) -> bytes:
    """The beginning of a safetensors file: the header's length, and the header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


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
        "integers for weights": {down: torch.ones_like(tensors[down], dtype=torch.int32)},
        "truth values for an embedding": {key: torch.ones(1, 768, dtype=torch.bool)},
        "a device for a name": {"bundle_emb.NUL.string_to_param.*": tensors[key], key: None},
        "a stream for a name": {"bundle_emb.a:b.string_to_param.*": tensors[key], key: None},
        "a dot at a name's end": {"bundle_emb.a..string_to_param.*": tensors[key], key: None},
        "an endless name": {f"bundle_emb.{'a' * 100_000}.string_to_param.*": tensors[key], key: None},
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
        "another family, with markup": {card + "architecture": json.dumps("<b>\x1b[31m\nx")},
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
        "a header of 1 GiB": (2**30).to_bytes(8, "little") + content[8:],
        "more numbers than the file has": whole({"t": one("F32", [2**28], 2**30)}) + content[-100:],
        "more numbers than there are": whole({"t": one("F32", [2**62, 2**62], 4)}) + bytes(4),
        "negative offsets": whole({"t": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}) + bytes(4),
        "brackets without end": whole(b'{"__metadata__":' + b"[" * 10**6),
        "tensors without end": whole({f"t{i}": one("F32", [0], 0) for i in range(60_000)}),
    }
    path.write_bytes(damaged.get(case, content))


HOSTILE = {
    "a path for a name": "embedding_name: '../../evil' cannot be used",
    "an absolute path for a name": "embedding_name: '/tmp/evil' cannot be used",
    "two embeddings": "has 2 embeddings",
    "an unknown form": "an embedding in an unknown form",
    "NaN": "holds NaN or infinity",
    "an embedding of numbers": r"shapes \{'string_to_param.\*': \[768\]\}",
    "too many vectors": r"\[76, 768\]",
    "another width": "its embedding is for text encoders",
    "another shape": "does not fit the shapes of this model",
    "a reshaping": "has torch.int64 in .* no weights",
    "an alpha of many": "its LoRA cannot be read",
    "weights of another model": "are not of this model: 'lora_unet_nothing",
    "integers for weights": "has torch.int32 in .* no weights",
    "truth values for an embedding": "has torch.bool in .* no weights",
    "a device for a name": "embedding_name: 'NUL' cannot be used",
    "a stream for a name": "embedding_name: 'a:b' cannot be used",
    "a dot at a name's end": r"embedding_name: 'a\.' cannot be used",
    "an endless name": r"embedding_name: 'a+… cannot be used",
    "another family, with markup": r"made for 'base.safetensors' \('<b>\\x1b\[31m\\nx'\), another family",
    "no embedding": "holds no embedding",
    "no card": "the file does not say what kind of thing it is",
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
    "a header of 1 GiB": "a header of 1073741824 bytes",
    "more numbers than the file has": "is damaged or no safetensors file",
    "more numbers than there are": "is damaged or no safetensors file",
    "negative offsets": "is damaged or no safetensors file",
    "brackets without end": "is damaged or no safetensors file",
    "tensors without end": "60000 tensors",
}


@pytest.fixture(scope="module")
def good(sd1) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    concept = make_concept(sd1, "good")
    found = read(save(concept, make_lora(sd1[0]), torch.rand(1, 8, 8, 3)))
    concept.path.unlink()
    return found


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_and_nothing_is_written(case, good, sd1, output_folder):
    path = output_folder / "loras" / "hostile.safetensors"
    hostile(case, *good, path)
    before = {file: file.stat().st_mtime_ns for file in output_folder.parent.rglob("*")}
    with pytest.raises(ValueError, match=HOSTILE[case]):
        load(sd1, "loras/hostile.safetensors")
    assert {file: file.stat().st_mtime_ns for file in output_folder.parent.rglob("*")} == before


def test_the_file_that_the_hostile_ones_are_made_from_is_good(good, sd1, output_folder):
    hostile("nothing wrong", *good, output_folder / "loras" / "hostile.safetensors")
    assert load(sd1, "loras/hostile.safetensors")[3] == f"embedding:good {WORD}"


def test_an_alpha_may_be_an_integer(good, sd1, output_folder):
    tensors, metadata = good
    whole_numbers = {key: tensor.long() if key.endswith(".alpha") else tensor for key, tensor in tensors.items()}
    save_file(whole_numbers, output_folder / "loras" / "integer.safetensors", metadata)
    assert load(sd1, "loras/integer.safetensors")[3] == f"embedding:good {WORD}"


def test_nothing_of_a_card_is_markup_or_longer_than_a_screen(good, sd1, output_folder):
    """The editor shows it as text, HTML or Markdown, whose pictures it would fetch."""
    tensors, metadata = good
    evil = (
        "<img src=x onerror=alert(1)> ![a](http://evil/x.png) [b](javascript:x) \x1b[31m\u202e\n# head " + "x" * 10**5
    )
    metadata = {**metadata, "core_personalization.description": json.dumps(evil)}
    metadata["core_personalization.settings"] = json.dumps({evil[:200]: [[evil[:200]]], "seed": 1})
    save_file(tensors, output_folder / "loras" / "evil.safetensors", metadata)
    card = load(sd1, "loras/evil.safetensors")[4]
    assert "onerror" in card
    assert "<" not in card and "](" not in card
    assert all(line.isprintable() and len(line) < 5000 for line in card.split("\n"))
    assert not [line for line in card.split("\n") if line.startswith(("#", "!", "["))]


MEASURE = """
import importlib, importlib.util, json, resource, sys
root, folder = sys.argv[1:]
spec = importlib.util.spec_from_file_location("pack", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["pack"] = importlib.util.module_from_spec(spec)
files = importlib.import_module("pack.nodes.files.foreign_files")
from pathlib import Path
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, found = peak(), {}
for path in sorted(Path(folder).iterdir()):
    try:
        files.read("file", path)
        found[path.stem] = "read"
    except ValueError as error:
        found[path.stem] = str(error)
print(json.dumps([peak() - before, found]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux counts it; files with holes in them")
def test_no_file_takes_much_memory_before_it_is_refused(tmp_path):
    """A terabyte that takes no room on the disk, and the largest headers that are looked at."""
    sizes = {"a terabyte": 2**40, "text": 4}
    headers = {
        "a terabyte": {"t": one("F32", [2**38], 2**40)},
        "text": {"__metadata__": {"a": "x" * (15 * 2**20)}, "t": one("F32", [1], 4)},
        "tensors": {f"t{i}": one("F32", [0], 0) for i in range(120_000)},
    }
    for name, header in headers.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(whole(header))
        os.truncate(path, path.stat().st_size + sizes.get(name, 0))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(ROOT), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taken, found = json.loads(done.stdout)
    assert "1024.0 GiB large" in found["a terabyte"]
    assert "close other programs" in found["a terabyte"] and "damaged" not in found["a terabyte"]
    assert "120000 tensors" in found["tensors"]
    assert found["text"] == "read"
    assert taken < 200  # MiB
