"""What the templates, set for real checkpoints, have in place of their values when the embedded checkpoint draws.

The mini world is a model of Stable Diffusion 1.5's shape for pictures of 64 pixels: it takes fewer steps at higher
rates, and less guidance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .client import Workflow

CHECKPOINT = "core_mini_world.safetensors"
CONCEPT, OTHER_CONCEPT = "patchwork-dog", "striped-teapot"
SIDE = 64

INPUTS: Mapping[str, Mapping[str, Any]] = {
    "CheckpointLoaderSimple": {"ckpt_name": CHECKPOINT},
    "CoReConceptImages": {"folder": CONCEPT},
    "CoReTrainEmbedding": {"steps": 100, "resolution": SIDE, "preview_every": 50, "gradient_accumulation": 1},
    "CoReUNetIdentityFinetune": {
        **{"steps": 100, "resolution": SIDE, "learning_rate": 2e-3, "preview_every": 50},
        "gradient_accumulation": 1,
    },
    "CoReTestTimeOptimize": {"width": SIDE, "height": SIDE},
    "EmptyLatentImage": {"width": SIDE, "height": SIDE, "batch_size": 2},
    "KSampler": {"cfg": 3.0, "scheduler": "normal"},
}
"""By node type. What comes from another node stays."""
NODES: Mapping[str, Mapping[str, Any]] = {
    "One picture at a time": {"batch_size": 1},
    "Stage 1 · a word": {"steps": 60, "batch_size": 4, "learning_rate": 3e-3},
    "Stage 2 · where it looks": {"steps": 20, "learning_rate": 5e-4, "augmentation": 0},
    "Stage 2 · its looks": {"learning_rate": 7e-4},
    "Your cat's photos": {"folder": OTHER_CONCEPT},
    "A word for your dog": {"steps": 60, "batch_size": 2},
    "A word for your cat": {"steps": 60, "batch_size": 2, "super_category": "teapot", "prompt_set": "inanimate"},
    "The looks of both": {"steps": 160, "learning_rate": 7e-4},
    "Its looks": {"steps": 60, "learning_rate": 5e-4},
    "Stage 3 · its looks": {"steps": 60, "learning_rate": 1e-3},
    "Saved step 1": {"file": "embeddings/my-dog-steps/my-dog-step50.safetensors"},
    "Saved step 2": {"file": "embeddings/my-dog-steps/my-dog-step100.safetensors"},
    "Saved step 3": {"file": "embeddings/my-dog.safetensors"},
    "Selectively Informative Captions": {
        "own_captions": "\n".join(
            (
                "a photo of a {} standing in the garden, in front of a white fence, with pink flowers in the grass",
                "a photo of a {} standing on the beach by the blue sea, next to a red umbrella, under a yellow sun",
                "a photo of a {} standing in the kitchen, with books on a shelf and a window behind",
                "a photo of a {} standing on a city street, in front of gray buildings with yellow windows",
            )
        )
    },
}
"""By a node's title, after that."""


def in_mini_world(workflow: Workflow) -> Workflow:
    """The same workflow, in the form that the server runs, for the embedded checkpoint."""
    for node in workflow.values():
        given = node["inputs"]
        changes = {**INPUTS.get(node["class_type"], {}), **NODES.get(node["_meta"]["title"], {})}
        given |= {name: value for name, value in changes.items() if not isinstance(given.get(name), list)}
    return workflow
