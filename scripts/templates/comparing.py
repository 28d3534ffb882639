"""Workflows that set two ways beside each other: the same prompts and seeds, scores of both, a blind vote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graph import Graph, Subgraph
from .looking import WITH_PICTURE, WITH_TEXT
from .parts import NAME, SD15, SDXL, checkpoint, evaluation_prompts, photos, sampled, sampling

FACE = "my-face"
PHOTOMAKER = "photomaker-v1.bin"
PHOTOMAKER_ADDRESS = f"https://huggingface.co/TencentARC/PhotoMaker/resolve/main/{PHOTOMAKER}"
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
        *((draw, 560), (290, 200)),
        "*Blind Vote* writes a page: give it to people. Put the CSV files that they save into ComfyUI's `input`, press "
        "`r`, click *Vote Results*, Ctrl+B, choose the vote, and Run.",
    )
    loader, pictures = checkpoint(graph, (0, 0), 270), photos(graph)
    concepts = [
        graph.node(
            *("CoReLoadConcept", (load, (WITH_TEXT + 70) * row), (270, WITH_TEXT), title),
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


def scored_both(known: Mapping[str, Any]) -> Subgraph:
    """A concept and PhotoMaker in the same evaluation prompts, with the same seeds, and the scores of both."""
    sockets = {
        **{"model": "MODEL", "clip": "CLIP", "vae": "VAE", "concept": "CORE_CONCEPT", "plain_model": "MODEL"},
        **{"plain_clip": "CLIP", "photomaker": "PHOTOMAKER", "references": "IMAGE"},
    }
    graph = Subgraph(
        "Draw and score both",
        known,
        {
            **{name: (kind, None) for name, kind in sockets.items()},
            **{"resolution": ("INT", 1024), "prompt_set": ("COMBO", "person"), "seeds_per_prompt": ("INT", 1)},
            **sampling(SDXL, batches=False),
            **{"value": ("STRING", "person photomaker"), "face_model": ("STRING", "")},
            "allow_downloads": ("BOOLEAN", False),
        },
        "Draws a concept, and core's PhotoMaker from its photos alone, in the same prompts; scores both.",
        labels={"value": "PhotoMaker's words"},
    )
    shared = {name: graph[name] for name in ("references", "concept", "face_model", "allow_downloads")}
    told = evaluation_prompts(graph, (-360, 0), concept=graph["concept"])
    words = graph.node("CLIPTextEncode", (0, 0), (300, 90), clip=graph["clip"], text=told["prompts"])
    _, concept = sampled(graph, words["CONDITIONING"], graph["model"], told["seeds"])
    scores = graph.node(
        *("CoReScorecard", (1250, 0), (320, 420)), **shared, generated=concept, prompts=told["prompts"], overwrite=True
    )
    called = graph.node("PrimitiveString", (-720, 600), (300, 60), "PhotoMaker's words", value=graph["value"])["STRING"]
    told = evaluation_prompts(graph, (-360, 600), concept_text=called)
    square = graph.node("ImageScale", (-360, 1000), (300, 130), "All of one size", image=graph["references"],
                        **{"width": 512, "height": 512, "crop": "center"})  # fmt: skip
    batch = graph.node(
        "RebatchImages", (-360, 1190), (300, 60), "As one batch", images=square["IMAGE"], batch_size=4096
    )
    faces = graph.node(
        *("PhotoMakerEncode", (0, 600), (300, 130)),
        **{"photomaker": graph["photomaker"], "clip": graph["plain_clip"], "text": told["prompts"]},
        image=batch["IMAGE"],
    )
    _, rival = sampled(
        graph, faces["CONDITIONING"], graph["plain_model"], told["seeds"], top=600, clip=graph["plain_clip"]
    )
    rivals = graph.node(
        *("CoReScorecard", (1250, 600), (320, 420)),
        **{**shared, "generated": rival, "prompts": told["prompts"], "compare_with": scores["scores"]},
        **{"identifier": called, "scorecard_name": "PhotoMaker", "overwrite": True},
    )
    graph.outputs |= {"concept_images": concept, "photomaker_images": rival, "pareto": rivals["pareto"]}
    graph.outputs |= {"concept_table": scores["table"], "photomaker_table": rivals["table"]}
    return graph


def photomaker(known: Mapping[str, Any]) -> Graph:
    """What a training gives beyond a model that reads the photos while it draws."""
    graph = Graph("Score against PhotoMaker - no training", known)
    look, draw, show, told = 290, 596, 930, 1276
    graph.note(
        *((draw, 690), (300, 150)),
        "SDXL. PhotoMaker draws people from photos, untrained (ComfyUI uses its encoder, not its LoRA). Switch "
        "`allow_downloads` on once for CLIP and DINO; for faces fill in `face_model`.",
    )
    loader = checkpoint(graph, (0, 0), 256, SDXL)
    concept = graph.node(
        *("CoReLoadConcept", (0, 190), (256, WITH_PICTURE)),
        **{"model": loader["MODEL"], "clip": loader["CLIP"], "file": f"embeddings/{FACE}.safetensors"},
    )
    pictures = photos(graph, (look, 0), title="Photos of one person", folder=FACE)
    rival = graph.node("PhotoMakerLoader", (look, 730), (270, 60), photomaker_model_name=PHOTOMAKER)
    rival.properties = {"models": [{"name": PHOTOMAKER, "url": PHOTOMAKER_ADDRESS, "directory": "photomaker"}]}
    drawn = graph.place(
        *(scored_both(known), (draw, 0), (300, 600)),
        **{name: concept[name] for name in ("model", "clip", "concept", "resolution")},
        **{"vae": loader["VAE"], "plain_model": loader["MODEL"], "plain_clip": loader["CLIP"]},
        photomaker=rival["PHOTOMAKER"],
        references=pictures["images"],
    )
    saved = [
        graph.node(
            *("SaveImage", (show, 420 * row), (310, 340), f"{title} (pictures)"),
            images=drawn[f"{which}_images"],
            filename_prefix=f"{FACE}/{which}",
        )
        for row, (which, title) in enumerate((("concept", "Your concept"), ("photomaker", "PhotoMaker")))
    ]
    pareto = graph.node("PreviewImage", (told, 0), (290, 250), "Concept against prompt", images=drawn["pareto"])
    titles = {"concept": "Scores of your concept", "photomaker": "Scores of PhotoMaker"}
    tables = [
        graph.node("PreviewAny", (told, 330 + 260 * row), (290, 190), title, source=drawn[f"{which}_table"])
        for row, (which, title) in enumerate(titles.items())
    ]
    graph.group("1 · Model, concept and photos", loader, concept, pictures, rival)
    graph.group("2 · Draw and score", drawn)
    graph.group("3 · Side by side", *saved)
    graph.group("4 · How good is it?", pareto, *tables)
    return graph
