"""What the editor shows of our nodes, as a translation file: locales/en/nodeDefs.json is made of it.

scripts/texts.py calls this under ComfyUI's Python. The server's own description of the nodes is the source, so the
file cannot say anything else.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preparation.errors import PreparationError
from preparation.installation import ROOT
from preparation.pack_link import PACK_FOLDER

from .base_folder import BaseFolder
from .client import ComfyUIClient
from .server import ComfyUIServer

LOCALES = ROOT / "locales"
ENGLISH = LOCALES / "en" / "nodeDefs.json"

Texts = dict[str, Any]


def our_nodes(object_info: Mapping[str, Any]) -> dict[str, Any]:
    """Of the server's /object_info, the nodes that come from this pack."""
    return {key: node for key, node in object_info.items() if node["python_module"].endswith(PACK_FOLDER)}


def english(nodes: Mapping[str, Any]) -> Texts:
    """Per node id the keys that the editor looks up: display_name, description, inputs and outputs."""
    return {key: _node(node) for key, node in sorted(nodes.items())}


def _node(node: Mapping[str, Any]) -> Texts:
    declared = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
    order = [name for names in node["input_order"].values() for name in names if name in declared]
    outputs = zip(node["output_name"], node["output_tooltips"], strict=True)
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": {
            name: {"name": declared[name][1].get("display_name", name), "tooltip": declared[name][1]["tooltip"]}
            for name in order
        },
        "outputs": {str(index): {"name": name, "tooltip": tooltip} for index, (name, tooltip) in enumerate(outputs)},
    }


def as_file(texts: Texts) -> str:
    return json.dumps(texts, ensure_ascii=False, indent=2) + "\n"


def flat(texts: Texts, key: str = "") -> dict[str, str]:
    """Every text by its path, such as CoReLoadConcept.inputs.file.tooltip."""
    found: dict[str, str] = {}
    for name, value in texts.items():
        found |= flat(value, f"{key}{name}.") if isinstance(value, dict) else {f"{key}{name}": value}
    return found


def write_english() -> list[str]:
    """Writes the file anew; returns the paths of texts whose translations are to be looked at."""
    before = flat(json.loads(ENGLISH.read_text(encoding="utf-8"))) if ENGLISH.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        server = ComfyUIServer(Path(os.environ["COMFYUI_PATH"]), BaseFolder.make(Path(folder)))
        with server:
            nodes = our_nodes(ComfyUIClient(server.address).get("/object_info"))
    if not nodes:
        raise PreparationError("ComfyUI loaded none of the pack's nodes, so nothing was written. Its log says why.")
    texts = english(nodes)
    ENGLISH.parent.mkdir(parents=True, exist_ok=True)
    ENGLISH.write_text(as_file(texts), encoding="utf-8", newline="\n")
    after = flat(texts)
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def main() -> int:
    try:
        changed = write_english()
    except PreparationError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"{ENGLISH} is written; {len(changed)} texts changed.")
    others = sorted(folder.name for folder in LOCALES.iterdir() if folder.is_dir() and folder != ENGLISH.parent)
    if changed:
        print(f"To be translated anew, in {', '.join(others)}:", *changed, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
