"""The example workflows, run as they are in a real ComfyUI with the embedded checkpoint; each once, then kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver.client import ComfyUIClient, Workflow
from driver.progress_lines import ProgressLines
from driver.server import ComfyUIServer
from PIL import Image, ImageSequence
from preparation.errors import PreparationError
from preparation.installation import ROOT

WORKFLOWS = ROOT / "example_workflows"
PROMPTS = ROOT / "lab" / "world" / "drawing" / "prompts" / "animate.txt"
TRAINING, LOADING = "CoReTrainEmbedding", "CoReLoadConcept"
BEFORE = {"why_is_my_word_ignored": "quick_start", "load_shared_concept": "core_full"}
"""Workflows that open what another leaves."""
SHARED_AS = {"load_shared_concept": ("patchwork-dog-core-shared.safetensors", "my-concept.safetensors")}
"""Among the LoRAs, what the other saved, and the name under which it is opened."""
SAME_TRAINING = dict.fromkeys(("attention_probe", "core_full", "scorecard"), "quick_start")
"""Workflows that train what another has trained, with the same settings but for the name: its file is loaded."""
LEFT_OUT = {"scorecard": "CoReScorecard"}
"""A node that needs models which the project has not, such as CLIP and DINO; what it feeds is left out as well."""


CHANGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "attention_probe": {"CoReAttentionMaps": {"words": "hat, beach", "columns": 3}},
    "scorecard": {
        "CoReEvaluationPrompts": {
            "seeds_per_prompt": 1,
            "prompt_set": "own",
            "own_prompts": PROMPTS.read_text(encoding="utf-8").strip(),
        }
    },
    "why_is_my_word_ignored": {"CoReAttentionMaps": {"words": "sunglasses, jungle", "columns": 3}},
}
"""By workflow and node type, what is not as in the template: fewer words and seeds, for pictures that can be read when
small; prompts whose words the embedded checkpoint knows."""


@dataclass(frozen=True)
class Run:
    """A workflow that has run, and what its nodes showed. Nodes are named by title, or by type where they have none."""

    workflow: Workflow
    outputs: Mapping[str, Mapping[str, Any]]
    folder: Path

    def pictures(self, title: str) -> list[Image.Image]:
        names = self.outputs[node_titled(self.workflow, title)]["images"]
        return [Image.open(self.folder / name).convert("RGB") for name in names]

    def frames(self, title: str) -> list[Image.Image]:
        """Of an animation."""
        (name,) = self.outputs[node_titled(self.workflow, title)]["images"]
        with Image.open(self.folder / name) as animation:
            return [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]

    def text(self, title: str) -> str:
        return "".join(self.outputs[node_titled(self.workflow, title)]["text"])

    def inputs(self, title: str) -> dict[str, Any]:
        return self.workflow[node_titled(self.workflow, title)]["inputs"]


@dataclass(frozen=True)
class Runs:
    """Of one server. kept: a folder for what was shown, by a hash of workflow and model."""

    server: ComfyUIServer
    client: ComfyUIClient
    kept: Path

    def template(self, name: str) -> Run:
        """As it opens; nothing has run."""
        return Run(self._workflow(name), {}, self.kept)

    def of(self, name: str) -> Run:
        if name in BEFORE:
            self.of(BEFORE[name])
        if name in SHARED_AS:
            source, target = (self.server.output / "loras" / file for file in SHARED_AS[name])
            shutil.copyfile(source, target)
        workflow = self._workflow(name)
        if name in SAME_TRAINING:
            self.of(SAME_TRAINING[name])
            load_in_place_of_training(workflow, self._workflow(SAME_TRAINING[name]))
        if name in LEFT_OUT:
            drop_with_users(workflow, node_titled(workflow, LEFT_OUT[name]))
        folder = self.kept / f"{name}-{_key(workflow)}"
        if not (folder / "outputs.json").exists():
            self._run(name, workflow, folder)
        return Run(workflow, json.loads((folder / "outputs.json").read_text(encoding="utf-8")), folder)

    def _workflow(self, name: str) -> Workflow:
        """As the template has it; files of earlier runs may be replaced."""
        workflow = self.client.convert(json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))
        for node in workflow.values():
            node["inputs"] |= CHANGES.get(name, {}).get(node["class_type"], {})
            if "overwrite" in node["inputs"]:
                node["inputs"]["overwrite"] = True
        return workflow

    def _run(self, name: str, workflow: Workflow, folder: Path) -> None:
        print(name, flush=True)
        execution = self.client.submit(workflow, ProgressLines(workflow, sys.stdout))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        outputs = {node_id: self._keep(node_id, shown, folder) for node_id, shown in execution.outputs.items()}
        (folder / "outputs.json").write_text(json.dumps(outputs), encoding="utf-8")

    def _keep(self, node_id: str, shown: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Copies the pictures, which ComfyUI keeps for a while only, and names the copies in their place."""
        sources = {"output": self.server.output, "temp": self.server.base.temporary}
        names = []
        for number, image in enumerate(shown.get("images", [])):
            name = f"{node_id}-{number}{Path(image['filename']).suffix}"
            shutil.copyfile(sources[image["type"]] / image["subfolder"] / image["filename"], folder / name)
            names.append(name)
        return {**shown, "images": names}


def load_in_place_of_training(workflow: Workflow, trained: Workflow) -> None:
    """Curves, which a file has none of, are left out. Raises PreparationError when the trainings are not the same."""
    (node_id,) = (node_id for node_id, node in workflow.items() if node["class_type"] == TRAINING)
    (other,) = (node for node in trained.values() if node["class_type"] == TRAINING)
    inputs = workflow[node_id]["inputs"]
    differing = {key for key in inputs if inputs[key] != other["inputs"][key]} - {"concept_name"}
    if differing:
        raise PreparationError(f"The trainings differ in {', '.join(sorted(differing))}: run this one by itself.")
    file = f"embeddings/{other['inputs']['concept_name']}.safetensors"
    workflow[node_id]["class_type"] = LOADING
    workflow[node_id]["inputs"] = {
        **{key: inputs[key] for key in ("model", "clip")},
        **{"file": file, "strength": 1.0, "embedding_name": "", "any_base_of_same_family": False},
    }
    for user, node in list(workflow.items()):
        for key, value in node["inputs"].items():
            if value == [node_id, 0]:
                node["inputs"][key] = [node_id, 2]  # Both have a concept, in another place.
            elif _is_from(node_id, value):
                drop_with_users(workflow, user)


def drop_with_users(workflow: Workflow, node_id: str) -> None:
    workflow.pop(node_id, None)
    for user, node in list(workflow.items()):
        if any(_is_from(node_id, value) for value in node["inputs"].values()):
            drop_with_users(workflow, user)


def _is_from(node_id: str, value: Any) -> bool:
    return isinstance(value, list) and value[0] == node_id


def node_titled(workflow: Workflow, title: str) -> str:
    found = [key for key, node in workflow.items() if title in (node["_meta"]["title"], node["class_type"])]
    if len(found) != 1:
        raise KeyError(f"{title}: {len(found)} nodes have this title")
    return found[0]


def _key(workflow: Workflow) -> str:
    model = (ROOT / "lab" / "assets" / "world" / "core.safetensors").read_bytes()
    computed = {key: (node["class_type"], node["inputs"]) for key, node in workflow.items()}
    return hashlib.sha256(model + json.dumps(computed, sort_keys=True).encode()).hexdigest()[:12]
