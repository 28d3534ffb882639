"""Run once more: in a ComfyUI that was started anew, and without its cache, what was trained is loaded, not trained."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from api_workflow import with_defaults
from driver import quick_start
from driver.base_folder import BaseFolder
from driver.client import ComfyUIClient, Execution, Workflow, WorkflowInterrupted
from driver.server import ComfyUIServer

STEPS = 8
EMBEDDING, FINETUNE, SAMPLER, PICTURES = "4", "5", "8", "10"


def workflow(sampler_seed: int, **training: Any) -> Workflow:
    """Both trainings, and a picture of what they learned."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    sockets: dict[str, Any] = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "images": ["2", 0]}
    small = {"steps": STEPS, "batch_size": 1, "resolution": 32, "preview_every": 0, **training}
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name=quick_start.CHECKPOINT),
        "2": node("LoadImageDataSetFromFolder", folder="patchwork-dog"),
        EMBEDDING: node("CoReTrainEmbedding", **sockets, **{"concept_name": "again", "super_category": "dog", **small}),
        FINETUNE: node(
            "CoReUNetIdentityFinetune",
            **{**sockets, "concept": [EMBEDDING, 0], "name": "again", "form": "LoRA", **small},
        ),
        "6": node("CLIPTextEncode", clip=["1", 1], text=[EMBEDDING, 1]),
        "7": node("EmptyLatentImage", width=32, height=32, batch_size=1),
        SAMPLER: node(
            "KSampler",
            **{"model": [FINETUNE, 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["7", 0]},
            **{"seed": sampler_seed, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"},
            denoise=1.0,
        ),
        "9": node("VAEDecode", samples=[SAMPLER, 0], vae=["1", 2]),
        PICTURES: node("SaveImage", images=["9", 0], filename_prefix="again"),
    }


def steps_made(execution: Execution) -> int:
    """Of both trainings, as their progress bars say it."""
    return len(
        {
            (message["data"]["node"], message["data"]["value"])
            for message in execution.messages
            if message["type"] == "progress" and message["data"]["node"] in (EMBEDDING, FINETUNE)
        }
    )


def said(execution: Execution, node: str) -> str:
    return "".join(execution.outputs[node]["text"])


@pytest.fixture
def base(tmp_path: Path) -> BaseFolder:
    base = BaseFolder.make(tmp_path)
    quick_start.fill_base_folder(base)
    return base


def test_after_a_restart_another_sampler_seed_trains_nothing(comfyui_path, base):
    with ComfyUIServer(comfyui_path, base) as server:
        client = ComfyUIClient(server.address)
        stopped = with_defaults(workflow(1), client.get("/object_info"))

        def cancel(message: dict[str, Any]) -> None:
            data = message["data"]
            if message["type"] == "progress" and data["node"] == FINETUNE and data["value"] >= 2:
                client.interrupt()

        with pytest.raises(WorkflowInterrupted):
            client.submit(stopped, cancel)
    with ComfyUIServer(comfyui_path, base) as server:
        client = ComfyUIClient(server.address)
        went_on = client.submit(with_defaults(workflow(1), client.get("/object_info")))
        assert 0 < steps_made(went_on) < 2 * STEPS
        assert "before it stopped" in said(went_on, FINETUNE)
    with ComfyUIServer(comfyui_path, base) as server:
        client = ComfyUIClient(server.address)
        began = time.monotonic()
        again = client.submit(with_defaults(workflow(2), client.get("/object_info")))
        print(f"loaded and drawn in {time.monotonic() - began:.1f} s")
        assert steps_made(again) == 0
        for node in (EMBEDDING, FINETUNE):
            assert "again: trained before with the same pictures and settings; loaded." in said(again, node)
        assert again.outputs[PICTURES]["images"]
