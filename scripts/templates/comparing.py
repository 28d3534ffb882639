"""The workflow of a blind vote: two concepts in the same prompts, with the same seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graph import Graph, Subgraph
from .looking import WITH_TEXT
from .parts import NAME, SD15, checkpoint, evaluation_prompts, photos, sampled, sampling

WORDS = {"One method": f"{NAME}-core", "Another method": f"{NAME}-dti"}
"""Files that the template with two methods leaves."""


def drawn_both(known: Mapping[str, Any]) -> Subgraph:
    """Two concepts in the same evaluation prompts, with the same seeds."""
    sides = ("first", "second")
    kinds = {"model": "MODEL", "clip": "CLIP", "concept": "CORE_CONCEPT"}
    sockets = {f"{side}_{name}": kind for side in sides for name, kind in kinds.items()} | {"vae": "VAE"}
    graph = Subgraph(
        "Draw both",
        known,
        {
            **{name: (kind, None) for name, kind in sockets.items()},
            **{"resolution": ("INT", 512), "prompt_set": ("COMBO", "animate"), "seeds_per_prompt": ("INT", 1)},
            **sampling(SD15, batches=False),
        },
        "Draws two concepts in the prompts of CoRe's paper, with the same seeds.",
    )
    for row, side in enumerate(sides):
        top = 600 * row
        told = evaluation_prompts(graph, (-360, top), concept=graph[f"{side}_concept"])
        words = graph.node("CLIPTextEncode", (0, top), (300, 90), clip=graph[f"{side}_clip"], text=told["prompts"])
        graph.outputs[side] = sampled(graph, words["CONDITIONING"], graph[f"{side}_model"], told["seeds"], top=top,
                                      clip=graph[f"{side}_clip"])[1]  # fmt: skip
        graph.outputs["plain_prompts"] = told["plain_prompts"]
    return graph


def vote(known: Mapping[str, Any]) -> Graph:
    """CoRe's user study."""
    graph = Graph("Score by vote - which do people prefer", known)
    load, draw, show, ask = 304, 608, 932, 1246
    graph.note(
        *((load, 858), (270, 88)),
        "*Blind Vote* writes a page: give it to people. Put the CSV files that they save into ComfyUI's "
        "**input**, press **r**, click *Vote Results*, Ctrl+B, choose the vote, and Run.",
    )
    loader, pictures = checkpoint(graph, (0, 0), 270), photos(graph)
    concepts = [
        graph.node(
            *("CoReLoadConcept", (load, (WITH_TEXT + 60) * row), (270, WITH_TEXT), title),
            **{"model": loader["MODEL"], "clip": loader["CLIP"], "file": f"embeddings/{name}.safetensors"},
        )
        for row, (title, name) in enumerate(WORDS.items())
    ]
    sides = dict(zip(("first", "second"), concepts, strict=True))
    drawn = graph.place(
        *(drawn_both(known), (draw, 0), (290, 480)),
        **{f"{side}_{key}": word[key] for side, word in sides.items() for key in ("model", "clip", "concept")},
        vae=loader["VAE"],
        resolution=concepts[0]["resolution"],
    )
    saved = [
        graph.node(
            *("SaveImage", (show, 420 * row), (280, 340), f"{word.title} (pictures)"),
            images=drawn[side],
            filename_prefix=f"{NAME}/{word.title.lower()}",
        )
        for row, (side, word) in enumerate(sides.items())
    ]
    ballot = graph.node(
        *("CoReBlindVote", (ask, 0), (300, 400)),
        **{side: drawn[side] for side in sides},
        **{"prompts": drawn["plain_prompts"], "references": pictures["images"]},
        **{"vote_name": f"{NAME}-vote", "first_name": "CoRe", "second_name": "DTI"},
    )
    results = graph.node("CoReVoteResults", (ask, 480), (300, 280), "Vote Results (Ctrl+B)")
    results.bypassed = True
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · Two concepts, drawn alike", *concepts, drawn)
    graph.group("3 · Side by side", *saved)
    graph.group("4 · Let people vote", ballot, results)
    return graph
