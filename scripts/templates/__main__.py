"""Writes example_workflows and subgraphs, under ComfyUI's Python. scripts/write_templates.py prepares and calls it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from driver.base_folder import BaseFolder
from driver.client import ComfyUIClient
from driver.server import ComfyUIServer
from preparation.errors import PreparationError
from preparation.installation import ROOT

from . import chinese
from .blueprints import two_stages
from .comparing import vote
from .graph import Graph
from .looking import attention, best_step, ignored_word, score, shared_concept, side_by_side
from .rivals import editing, photomaker
from .training import (
    by_layer,
    captions,
    custom_diffusion,
    dreambooth_lora,
    form,
    quick_start,
    sdxl,
    style,
    three_stages,
    two_methods,
    two_pets,
    word_and_lora,
)

FOLDERS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Graph], ...]] = {
    "example_workflows": (
        *(
            quick_start,
            form,
            word_and_lora,
            two_pets,
            sdxl,
            three_stages,
            dreambooth_lora,
            custom_diffusion,
            captions,
            two_methods,
            by_layer,
            style,
        ),
        *(shared_concept, ignored_word, attention, side_by_side, score, best_step, vote, photomaker, editing),
    ),
    "subgraphs": (two_stages,),
}


def content(folder: str, graph: Graph) -> dict[str, Any]:
    """Of its file. Subgraphs are found by their one name."""
    return chinese.translated(graph.file()) if folder == "example_workflows" else graph.file()


def write(known: dict[str, Any]) -> None:
    for folder, makers in FOLDERS.items():
        for make in makers:
            graph = make(known)
            text = json.dumps(content(folder, graph), ensure_ascii=False, indent=1) + "\n"
            (ROOT / folder / f"{graph.name}.json").write_text(text, encoding="utf-8", newline="\n")
            print(f"{folder}/{graph.name}.json")


def main() -> int:
    try:
        with tempfile.TemporaryDirectory() as folder:
            server = ComfyUIServer(Path(os.environ["COMFYUI_PATH"]), BaseFolder.make(Path(folder)))
            with server:
                write(ComfyUIClient(server.address).get("/object_info"))
    except PreparationError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
