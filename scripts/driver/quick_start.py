"""The quick-start workflow: what it needs in ComfyUI's folders, and the files that it makes."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preparation.errors import PreparationError
from preparation.installation import ROOT

from .base_folder import BaseFolder
from .checkpoint import provide_checkpoint
from .client import ComfyUIClient, Execution, Workflow
from .mini_world import CHECKPOINT, in_mini_world

TEMPLATES = ROOT / "example_workflows"
WORKFLOW = TEMPLATES / "Train my dog - quick start.json"
CONCEPT_IMAGES = ROOT / "lab" / "assets" / "concepts"
TRAINING_NODE = "CoReTrainEmbedding"


@dataclass(frozen=True)
class QuickStartFiles:
    embeddings: list[Path]
    pictures: list[Path]
    charts: list[Path]

    def report(self) -> str:
        """Raises PreparationError when one kind is missing."""
        kinds = {"Embedding": self.embeddings, "Chart": self.charts, "Picture": self.pictures}
        for kind, files in kinds.items():
            if not files or not all(file.is_file() for file in files):
                raise PreparationError(f"{kind}: the workflow ended, but the file is missing. Expected: {files}")
        return "\n".join(f"  {kind + ':':<11}{file}" for kind, files in kinds.items() for file in files)


def template(client: ComfyUIClient, name: str = WORKFLOW.stem) -> Workflow:
    """A workflow of the template browser for the embedded checkpoint, in the form that the server runs."""
    return in_mini_world(client.convert(json.loads((TEMPLATES / f"{name}.json").read_text(encoding="utf-8"))))


def fill_base_folder(base: BaseFolder) -> None:
    """Concept pictures as folders, and singly as <concept>-<picture>: core's Load Image lists no folders."""
    provide_checkpoint(base.checkpoints / CHECKPOINT)
    for concept in sorted(CONCEPT_IMAGES.iterdir()):
        if concept.is_dir():
            shutil.copytree(concept, base.input / concept.name, dirs_exist_ok=True)
            for picture in concept.iterdir():
                shutil.copyfile(picture, base.input / f"{concept.name}-{picture.name}")


def allow_overwrite(workflow: Workflow) -> None:
    """The demo runs any number of times, and its folders are its own."""
    for node in _nodes(workflow, TRAINING_NODE).values():
        node["inputs"]["overwrite"] = True


def collect_files(workflow: Workflow, execution: Execution, base: BaseFolder, output: Path) -> QuickStartFiles:
    """What the run saved. What ComfyUI keeps only while it runs, the training's chart, is copied to `output`."""
    training = _nodes(workflow, TRAINING_NODE)
    shown = {node_id: ui.get("images", []) for node_id, ui in execution.outputs.items()}
    saved = [image for images in shown.values() for image in images if image["type"] == "output"]
    return QuickStartFiles(
        embeddings=[base.embeddings / f"{node['inputs']['concept_name']}.safetensors" for node in training.values()],
        pictures=[output / image["subfolder"] / image["filename"] for image in saved],
        charts=[
            _kept(image, node, base, output) for node_id, node in training.items() for image in shown.get(node_id, [])
        ],
    )


def _kept(image: dict[str, str], node: dict[str, Any], base: BaseFolder, output: Path) -> Path:
    source = base.temporary / image["subfolder"] / image["filename"]
    stem = re.sub(r"\W+", "_", node["_meta"]["title"].lower())
    names = (f"{stem}_{number:05}_{source.suffix}" for number in itertools.count(1))
    return Path(shutil.copyfile(source, next(output / name for name in names if not (output / name).exists())))


def _nodes(workflow: Workflow, class_type: str) -> dict[str, dict[str, Any]]:
    return {node_id: node for node_id, node in workflow.items() if node["class_type"] == class_type}
