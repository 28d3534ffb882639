"""Subgraphs that users find by search: several of our nodes as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graph import Graph, Subgraph
from .training import BEFORE_LORA, LORA


def two_stages(known: Mapping[str, Any]) -> Graph:
    sockets = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "images": "IMAGE", "masks": "MASK", "captions": "STRING"}
    sockets["photos"] = "CORE_PHOTOS"
    inner = Subgraph(
        "CoRe in two stages",
        known,
        {
            **{name: (kind, None) for name, kind in sockets.items()},
            "concept_name": ("STRING", "my-dog"),
            "super_category": ("STRING", "dog"),
            "prompt_set": ("COMBO", "animate"),
            "resolution": ("INT", 0),
            "steps": ("INT", 300),
            "steps_2": ("INT", LORA["steps"]),
            "overwrite": ("BOOLEAN", False),
        },
        "A word for your thing (stage 1), then its looks as a LoRA (stage 2), from about four pictures.",
        optional=("masks", "captions", "photos"),
        labels={"steps": "Steps of stage 1", "steps_2": "Steps of stage 2"},
    )
    shared = {**{name: inner[name] for name in (*sockets, "resolution", "overwrite")}, "fit": "keep"}
    word = inner.node(
        *("CoReTrainEmbedding", (0, 0), (340, 800)),
        **shared,
        **{name: inner[name] for name in ("concept_name", "super_category", "prompt_set", "steps")},
        **BEFORE_LORA,
    )
    looks = inner.node(
        *("CoReUNetIdentityFinetune", (400, 0), (340, 800)),
        **{**shared, **LORA, "steps": inner["steps_2"]},
        concept=word["concept"],
        name=inner["concept_name"],
    )
    inner.outputs |= {name: looks[name] for name in ("model", "concept", "lora", "preview", "resolution")}
    graph = Graph(inner.name, known)
    graph.place(inner, (0, 0), (340, 420))
    return graph
