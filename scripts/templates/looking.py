"""Workflows for a concept that is there already: used, looked into, scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graph import Graph, Node
from .parts import (
    NAME,
    NOTE,
    checkpoint,
    drawing,
    photos,
    scored_drawing,
    scored_prompts,
    sheet_row,
    table,
    watched_drawing,
)
from .routing import Point

FILE = f"embeddings/{NAME}.safetensors"
SAVED_STEPS = (100, 200, 300)
WITH_PICTURE, WITH_TEXT = 626, 380
"""Heights of Load Concept with what it shows of its file: five lines, and a picture."""


def shared_concept(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Use a shared concept", known)
    load, draw, show = 290, 690, 1020
    graph.note(
        *((0, 170), (256, 150)),
        "Put the file into ComfyUI's **models/loras** and press **r**. Choose the checkpoint that it was "
        "made for, then the file. **Run**.",
    )
    loader = checkpoint(graph, (0, 0), 256)
    concept = _concept(graph, loader, (load, 0), 360)
    card = graph.node("PreviewAny", (load, WITH_PICTURE + 70), (360, 240), "What the file says", source=concept["card"])
    drawn = graph.place(
        *(drawing(known), (draw, 0), (290, 350)),
        **{name: concept[name] for name in ("model", "clip", "concept", "resolution")},
        vae=loader["VAE"],
    )
    saved = graph.node("SaveImage", (show, 0), (420, 460), images=drawn["images"], filename_prefix=NAME)
    graph.group("1 · Model and file", loader, concept, card)
    graph.group("2 · Use it in any prompt", drawn, saved)
    return graph


def attention(known: Mapping[str, Any]) -> Graph:
    graph = Graph("See where a word acts - attention maps", known)
    write, draw, look, more = 292, 604, 894, 1320
    graph.note(
        *((write, 690), (270, 130)),
        "The same prompt and seed, with your concept and with its kind. A concept that takes much more than its kind "
        "leaves less for the other words.",
    )
    loader = checkpoint(graph, (0, 0), 256)
    concept = _concept(graph, loader, (0, 190), 256)
    prompt = graph.node(
        *("CoReConceptPrompt", (write, 0), (270, 110), "With your concept"),
        concept=concept["concept"],
        template="a photo of a {} wearing a hat on the beach",
    )
    words = graph.node("CLIPTextEncode", (write, 210), (270, 88), clip=concept["clip"], text=prompt["prompt"])
    kind = graph.node(
        *("PrimitiveStringMultiline", (write, 360), (270, 110), "With its kind"),
        value="a photo of a dog wearing a hat on the beach",
    )
    kind_words = graph.node("CLIPTextEncode", (write, 530), (270, 104), clip=concept["clip"], text=kind["STRING"])
    drawings = _watched(
        graph,
        *(loader, concept, draw),
        {
            "Your concept": {
                "model": concept["model"], "conditioning": words["CONDITIONING"], "prompt": prompt["prompt"]
            },
            "Its kind": {
                "model": loader["MODEL"], "conditioning": kind_words["CONDITIONING"], "prompt": kind["STRING"]
            },
        },
    )  # fmt: skip
    maps = _maps(graph, drawings, (look, 0), (400, 700), "Concept above, its kind below")
    shares = table(graph, (more, 0), (256, 300), "Share of each token", maps["table"])
    steps = graph.node(
        *("SaveAnimatedWEBP", (more, 370), (256, 400), "Step by step"),
        images=maps["frames"],
        **{"filename_prefix": "attention_steps", "fps": 4.0, "lossless": False},
    )
    graph.group("1 · Model and concept", loader, concept)
    graph.group("2 · Two prompts", prompt, kind_words)
    graph.group("3 · Draw both, watched", *drawings)
    graph.group("4 · What they attend to", maps, shares, steps)
    return graph


def side_by_side(known: Mapping[str, Any]) -> Graph:
    """CoRe's Figure 2, with one's own concept."""
    graph = Graph("See side by side - dog, puppy, my dog", known)
    rows, show = (300, 590, 880), 1172
    graph.note(
        *((show, 520), (400, 130)),
        "The same prompt and seed with three words. Columns of *other* words should look alike; where your concept's "
        "row differs, that word is ignored. Another concept? Copy a row, and connect **rows** to its **above**.",
    )
    loader = checkpoint(graph, (0, 0), 256)
    concept = _concept(graph, loader, (0, 190), 256)
    template = "a photo of a {} wearing a hat on the beach"
    filled = graph.node(
        *("CoReConceptPrompt", (rows[0], 560), (250, 166), "With your concept"),
        concept=concept["concept"],
        template=template,
    )
    shared = {"vae": loader["VAE"], "resolution": concept["resolution"]}
    plain = {"model": loader["MODEL"], "clip": loader["CLIP"]}
    learned = {"model": concept["model"], "clip": concept["clip"], "prompt": filled["prompt"]}
    given = (
        ("Its kind", "dog", {**plain, "prompt": template.format("dog")}),
        ("A near word", "puppy", {**plain, "prompt": template.format("puppy")}),
        ("Your concept", NAME, learned),
    )
    drawn: list[Node] = []
    for left, (title, name, own) in zip(rows, given, strict=True):
        above = {"above": drawn[-1]["rows"]} if drawn else {}
        words = "dog, wearing, hat, beach" if own is learned else ""
        drawn.append(
            graph.place(
                *(sheet_row(known), (left, 0), (250, 440), title),
                **{**shared, **own, **above, "row_name": name, "words": words},
            )
        )
    shown = graph.node("PreviewImage", (show, 0), (400, 440), "Side by side", images=drawn[-1]["sheet"])
    graph.group("1 · Model and concept", loader, concept)
    graph.group("2 · Three words, drawn and watched", *drawn, filled)
    graph.group("3 · What they attend to", shown)
    return graph


def ignored_word(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Why is my word ignored", known)
    write, refine, draw, look = 292, 596, 904, 1202
    graph.note(
        *((write, 840), (566, 100)),
        "The same prompt and seed, as it is and refined for this prompt. A low line in the chart, or a small share in "
        "the maps, is a word that is ignored. Still ignored? Raise **Steps** to 20 or 50.",
    )
    loader = checkpoint(graph, (0, 0), 256)
    concept = _concept(graph, loader, (0, 190), 256)
    template = graph.node(
        *("PrimitiveStringMultiline", (write, 0), (262, 110), "Your prompt"),
        value="a photo of a {} wearing sunglasses in the jungle",
    )
    text = template["STRING"]
    filled = graph.node("CoReConceptPrompt", (write, 175), (262, 128), concept=concept["concept"], template=text)
    words = graph.node("CLIPTextEncode", (write, 385), (262, 88), clip=concept["clip"], text=filled["prompt"])
    similar = graph.node(
        *("CoReContextSimilarity", (write, 530), (262, 250)),
        clip=concept["clip"],
        concept=concept["concept"],
        prompt=text,
    )
    side = concept["resolution"]
    refined = graph.node(
        *("CoReTestTimeOptimize", (refine, 0), (262, 430), "Refined for this prompt"),
        **{name: concept[name] for name in ("model", "clip", "concept")},
        **{"prompt": text, "width": side, "height": side},
    )
    report = table(graph, (refine, 530), (262, 240), "What was refined", refined["report"])
    drawings = _watched(
        graph,
        *(loader, concept, draw),
        {
            title: {"model": concept["model"], "conditioning": conditioning, "prompt": filled["prompt"]}
            for title, conditioning in (("As it is", words["CONDITIONING"]), ("Refined", refined["conditioning"]))
        },
    )
    maps = _maps(graph, drawings, (look, 0), (374, 390), "As it is above, refined below")
    pictures = [
        graph.node("SaveImage", (look, 460 + 240 * row), (374, 190), f"{node.title} (pictures)",
                   images=node["images"], filename_prefix=f"{NAME}/{node.title.lower()}")
        for row, node in enumerate(drawings)
    ]  # fmt: skip
    graph.group("1 · Model and concept", loader, concept)
    graph.group("2 · Your prompt", template, similar)
    graph.group("3 · Refine it", refined, report)
    graph.group("4 · Draw both, watched", *drawings)
    graph.group("5 · What they attend to", maps, *pictures)
    return graph


def score(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Score my concept - 20 prompts", known)
    look, draw, show, tell = 290, 616, 966, 1346
    graph.note(
        *((look, 740), (270, 130)),
        "How much of your dog, and how much of the prompts? Scoring needs CLIP and DINO: switch **Allow downloads** on "
        "once (about 700 MB).",
    )
    loader = checkpoint(graph, (0, 0), 256)
    concept = _concept(graph, loader, (0, 190), 256)
    pictures = photos(graph, (look, 0))
    prompts = graph.node(
        *("CoReEvaluationPrompts", (draw, 0), (310, 360)), concept=concept["concept"], seeds_per_prompt=1, seed=7
    )
    drawn = graph.place(
        *(scored_prompts(known), (draw, 455), (310, 490), "Draw and score"),
        **{name: concept[name] for name in ("model", "clip", "concept", "resolution")},
        **{name: prompts[name] for name in ("prompts", "seeds", "steps")},
        cfg=prompts["guidance"],
        vae=loader["VAE"],
        references=pictures["images"],
    )
    saved = graph.node("SaveImage", (show, 0), (340, 230), images=drawn["images"], filename_prefix=f"{NAME}/scored")
    chart = graph.node("PreviewImage", (show, 300), (340, 230), "Scores", images=drawn["chart"])
    pareto = graph.node("PreviewImage", (show, 600), (340, 230), "Concept against prompt", images=drawn["pareto"])
    told = table(graph, (tell, 0), (230, 830), "Table", drawn["table"])
    graph.group("1 · Model, concept and photos", loader, concept, pictures)
    graph.group("2 · Draw and score", prompts, drawn)
    graph.group("3 · How good is it?", saved, chart, pareto, told)
    return graph


def best_step(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Score saved steps - which is best", known)
    first, width, show = 310, 298, 1212
    graph.note(
        *NOTE,
        "A training saves its embedding on the way (**Save every … steps**). Choose three of those files: "
        "each draws the same prompts and is scored. Switch **Allow downloads** on once for CLIP and DINO.",
    )
    loader, pictures = checkpoint(graph, (0, 0), 270), photos(graph)
    scored, drawings, loaded = scored_drawing(known), [], []
    for number, step in enumerate(SAVED_STEPS):
        left = first + width * number
        file = f"embeddings/{NAME}-steps/{NAME}-step{step}.safetensors"
        concept = _concept(graph, loader, (left, 0), 264, file, WITH_TEXT)
        concept.title = f"Saved step {number + 1}"
        drawn = graph.place(
            *(scored, (left, WITH_TEXT + 90), (264, 424), f"Step {step}"),
            **{name: concept[name] for name in ("model", "clip", "concept", "resolution")},
            vae=loader["VAE"],
            references=pictures["images"],
            **({"compare_with": drawings[-1]["scores"]} if drawings else {}),
        )
        drawings.append(drawn)
        loaded.append(concept)
    pareto = graph.node("PreviewImage", (show, 0), (360, 380), "Which is best?", images=drawings[-1]["pareto"])
    told = table(graph, (show, 450), (360, 350), "Scores of the last one", drawings[-1]["table"])
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · Three saved steps, drawn and scored", *loaded, *drawings)
    graph.group("3 · Which is best?", pareto, told)
    return graph


def _concept(
    graph: Graph, loader: Node, place: Point, width: int, file: str = FILE, height: int = WITH_PICTURE
) -> Node:
    return graph.node("CoReLoadConcept", place, (width, height), model=loader["MODEL"], clip=loader["CLIP"], file=file)


def _watched(graph: Graph, loader: Node, concept: Node, left: int, rows: Mapping[str, Mapping[str, Any]]) -> list[Node]:
    """One below the other: per title its model, conditioning and prompt."""
    watch = watched_drawing(graph.known)
    return [
        graph.place(
            *(watch, (left, 440 * row), (256, 394), title),
            **{"clip": concept["clip"], "vae": loader["VAE"], "resolution": concept["resolution"]},
            **sockets,
        )
        for row, (title, sockets) in enumerate(rows.items())
    ]


def _maps(graph: Graph, drawings: list[Node], place: Point, size: Point, title: str) -> Node:
    first, second = drawings
    names = ("probe", "latent", "images")
    return graph.node(
        *("CoReAttentionMaps", place, size, title),
        **{name: first[name] for name in names},
        **{f"second_{name}": second[name] for name in names},
    )
