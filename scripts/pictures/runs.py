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

from driver import quick_start
from driver.client import ComfyUIClient, Workflow
from driver.progress_lines import ProgressLines
from driver.server import ComfyUIServer
from PIL import Image, ImageSequence
from preparation.installation import ROOT
from templates.parts import NAME

PROMPTS = ROOT / "lab" / "world" / "drawing" / "prompts" / "animate.txt"
QUICK_START, WORD_AND_LORA = "Train my dog - quick start", "Train my dog - word and LoRA"
CAPTIONS, IGNORED = "Train with captions - say everything but the dog", "Why is my word ignored"
ATTENTION, SCORE = "See where a word acts - attention maps", "Score my concept - 20 prompts"
SHARED, SIDE_BY_SIDE = "Use a shared concept", "See side by side - dog, puppy, my dog"
BEFORE = {**dict.fromkeys((IGNORED, ATTENTION, SIDE_BY_SIDE, SCORE), QUICK_START), SHARED: WORD_AND_LORA}
"""Workflows that open what another leaves."""
LEFT_OUT = {SCORE: "CoReScorecard"}
"""A node that needs models which the project has not, such as CLIP and DINO; what it feeds is left out as well."""
EVALUATED = {"seeds_per_prompt": 1, "prompt_set": "own", "own_prompts": PROMPTS.read_text(encoding="utf-8").strip()}

CHANGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    ATTENTION: {"CoReAttentionMaps": {"words": "hat, beach", "columns": 3}},
    IGNORED: {"CoReAttentionMaps": {"words": "sunglasses, jungle", "columns": 3}},
    SCORE: {"CoReEvaluationPrompts": EVALUATED},
    SHARED: {"CoReLoadConcept": {"file": f"loras/{NAME}-shared.safetensors"}},
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
        workflow = self._workflow(name)
        if name in LEFT_OUT:
            for node_id in [key for key, node in workflow.items() if node["class_type"] == LEFT_OUT[name]]:
                drop_with_users(workflow, node_id)
        folder = self.kept / f"{name}-{_key(workflow)}"
        if not (folder / "outputs.json").exists():
            self._run(name, workflow, folder)
        return Run(workflow, json.loads((folder / "outputs.json").read_text(encoding="utf-8")), folder)

    def _workflow(self, name: str) -> Workflow:
        """As the template has it; shared files of earlier runs may be replaced."""
        workflow = quick_start.template(self.client, name)
        for node in workflow.values():
            node["inputs"] |= CHANGES.get(name, {}).get(node["class_type"], {})
            if node["class_type"] == "CoReSaveConcept":
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
