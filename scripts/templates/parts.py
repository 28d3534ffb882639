"""What several workflows have: the way in, and the drawing as one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .graph import Graph, Node, Output, Subgraph
from .routing import Point

NAME = FOLDER = "my-dog"
OTHER = "my-cat"
"""Name and folder of a second concept."""
NEGATIVE = "blurry, text, watermark"
BIREFNET = "birefnet.safetensors"
BIREFNET_ADDRESS = "https://huggingface.co/Comfy-Org/BiRefNet/resolve/main/background_removal/birefnet.safetensors"
SWITCH = "Auto masks (Ctrl+B)"
"""How it is switched on stands in its title, which is seen where it is needed."""
PHOTOS, PHOTOS_TOP = (270, 664), 157
"""Size of Concept Images, with what it says of the folder and its contact sheet; its place below the checkpoint, which
grows where its file is missing."""
NOTE = (0, 860), (270, 88)
"""Place and size of a note below the photos."""


@dataclass(frozen=True)
class BaseModel:
    """A checkpoint that ComfyUI's own templates use, with its address for the editor's offer to fetch it."""

    file: str
    address: str
    guidance: float
    steps: int
    batch: int


SD15 = BaseModel(
    "v1-5-pruned-emaonly-fp16.safetensors",
    "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    guidance=7.0,
    steps=25,
    batch=4,
)
SDXL = BaseModel(
    "sd_xl_base_1.0.safetensors",
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    guidance=6.0,
    steps=30,
    batch=1,
)


def checkpoint(graph: Graph, place: Point, width: int, base: BaseModel = SD15) -> Node:
    node = graph.node("CheckpointLoaderSimple", place, (width, 98), ckpt_name=base.file)
    node.properties = {"models": [{"name": base.file, "url": base.address, "directory": "checkpoints"}]}
    return node


def photos(
    graph: Graph,
    place: Point = (0, PHOTOS_TOP),
    height: int = PHOTOS[1],
    title: str = "Your photos",
    folder: str = FOLDER,
) -> Node:
    return graph.node("CoReConceptImages", place, (PHOTOS[0], height), title, folder=folder)


def pictures_of(photos: Node, masks: Node | None = None) -> dict[str, Any]:
    """What a training takes of them, in their own proportions. masks: the node that these come from, if another."""
    taken = {name: photos[name] for name in ("images", "masks", "captions", "photos")}
    return {**taken, "masks": (masks or photos)["masks"], "fit": "keep"}


def table(graph: Graph, place: Point, size: Point, title: str, source: Output) -> Node:
    """A table of ours in ComfyUI's Preview as Text, which editor/table_previews.js sets to Markdown."""
    node = graph.node("PreviewAny", place, size, title, source=source)
    node.properties = {"core_markdown": True}
    return node


def photos_with_auto_masks(graph: Graph) -> tuple[Node, Node]:
    """And a switch: bypassed, it passes on the masks of the folder; else these and what core finds in front."""
    pictures = photos(graph, height=PHOTOS[1] - 10)
    inside = Subgraph(
        "Masks by themselves",
        graph.known,
        {"masks": ("MASK", None), "images": ("IMAGE", None), "bg_removal_name": ("COMBO", BIREFNET)},
        "Finds what is in front of each photo, by a model in models/background_removal. Off: click it, then Ctrl+B.",
    )
    loader = inside.node("LoadBackgroundRemovalModel", (0, 0), (320, 60), bg_removal_name=inside["bg_removal_name"])
    loader.properties = {"models": [{"name": BIREFNET, "url": BIREFNET_ADDRESS, "directory": "background_removal"}]}
    found = inside.node(
        "RemoveBackground", (360, 0), (220, 46), bg_removal_model=loader["bg_model"], image=inside["images"]
    )
    both = inside.node(
        "MaskComposite", (620, 0), (270, 130), destination=inside["masks"], source=found["mask"], operation="multiply"
    )
    inside.outputs["masks"] = both["MASK"]
    switch = graph.place(inside, (0, 868), (270, 78), SWITCH, masks=pictures["masks"], images=pictures["images"])
    switch.bypassed, switch.grows = True, 28
    return pictures, switch


def models(loader: Node) -> dict[str, Output]:
    return {"model": loader["MODEL"], "clip": loader["CLIP"], "vae": loader["VAE"]}


def drawing(known: Mapping[str, Any], base: BaseModel = SD15) -> Subgraph:
    """A concept in one prompt: from model, text encoder and concept to pictures."""
    about = "Draw it", "Draws a concept in a prompt: {} is the concept."
    return _prompt_drawn(known, base, about, ["concept"], "a photo of a {} in the jungle")


def drawing_of_both(known: Mapping[str, Any], base: BaseModel = SD15) -> Subgraph:
    """The same of two concepts."""
    about = "Draw both", "Draws two concepts in a prompt: {} is the first, {2} the second."
    return _prompt_drawn(known, base, about, ["concept", "concept_2"], "a photo of a {} and a {2} in the jungle")


def _prompt_drawn(
    known: Mapping[str, Any], base: BaseModel, about: tuple[str, str], concepts: Sequence[str], template: str
) -> Subgraph:
    """about: its name and what it does."""
    sockets = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", **dict.fromkeys(concepts, "CORE_CONCEPT")}
    graph = Subgraph(
        about[0],
        known,
        {
            **{name: (kind, None) for name, kind in sockets.items()},
            "resolution": ("INT", 512),
            "template": ("STRING", template),
            **sampling(base),
        },
        about[1],
    )
    named = {name: graph[name] for name in concepts}
    prompt = graph.node("CoReConceptPrompt", (0, 0), (320, 100), **named, template=graph["template"])
    words = graph.node("CLIPTextEncode", (360, 0), (300, 90), clip=graph["clip"], text=prompt["prompt"])
    _, image = sampled(graph, words["CONDITIONING"], graph["model"])
    graph.outputs["images"] = image
    return graph


def watched_drawing(known: Mapping[str, Any]) -> Subgraph:
    """A prompt drawn while a probe looks on."""
    sockets = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "conditioning": "CONDITIONING"}
    graph = Subgraph(
        "Draw it, watched",
        known,
        {
            **{name: (kind, None) for name, kind in sockets.items()},
            **{"prompt": ("STRING", ""), "resolution": ("INT", 512)},
            **sampling(SD15),
        },
        "Draws a prompt, and notes where each of its words acts.",
    )
    probe = graph.node(
        *("CoReContextAttentionProbe", (0, 0), (320, 300)),
        **{name: graph[name] for name in ("model", "clip", "prompt", "conditioning")},
    )
    latent, image = sampled(graph, graph["conditioning"], probe["model"])
    graph.outputs |= {"images": image, "latent": latent, "probe": probe["probe"]}
    return graph


def sheet_row(known: Mapping[str, Any]) -> Subgraph:
    """A prompt drawn while a probe looks on, as a row of an attention sheet."""
    sockets = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "above": "CORE_ATTENTION_ROWS"}
    graph = Subgraph(
        "Draw a row, watched",
        known,
        {
            **{name: (kind, None) for name, kind in sockets.items()},
            **{"resolution": ("INT", 512), "prompt": ("STRING", ""), **sampling(SD15, batches=False)},
            **{"row_name": ("STRING", ""), "words": ("STRING", "")},
        },
        "Draws a prompt, and shows where each of its words acts, below the rows above.",
        optional=("above",),
    )
    words = graph.node("CLIPTextEncode", (-360, 0), (300, 90), clip=graph["clip"], text=graph["prompt"])
    probe = graph.node(
        *("CoReContextAttentionProbe", (0, 0), (320, 300)),
        **{name: graph[name] for name in ("model", "clip", "prompt")},
        conditioning=words["CONDITIONING"],
    )
    latent, image = sampled(graph, words["CONDITIONING"], probe["model"], seed=graph["seed"])
    sheet = graph.node(
        *("CoReAttentionSheet", (1250, 0), (320, 240)),
        **{name: graph[name] for name in ("above", "row_name", "words")},
        **{"probe": probe["probe"], "latent": latent, "images": image},
    )
    graph.outputs |= {name: sheet[name] for name in ("sheet", "rows")}
    return graph


def scored_drawing(known: Mapping[str, Any]) -> Subgraph:
    """A concept in the paper's prompts, and how near the pictures come to references and prompts."""
    graph = _scoring(
        known,
        *("Draw and score", "Draws a concept in the prompts of CoRe's paper, and scores the pictures."),
        {"prompt_set": ("COMBO", "animate"), "seeds_per_prompt": ("INT", 1), **sampling(SD15, batches=False)},
    )
    prompts = evaluation_prompts(graph, (-360, 0), concept=graph["concept"])
    return _drawn_and_scored(graph, prompts["prompts"], prompts["seeds"])


def scored_prompts(known: Mapping[str, Any]) -> Subgraph:
    """The same, of prompts, seeds and numbers that come from outside."""
    graph = _scoring(
        known,
        *("Draw and score prompts", "Draws a concept in Evaluation Prompts, and scores the pictures."),
        {
            **{"prompts": ("STRING", ""), "seeds": ("INT", 7), "steps": ("INT", SD15.steps)},
            **{"cfg": ("FLOAT", SD15.guidance), "negative": ("STRING", NEGATIVE)},
            "sampler_name": ("COMBO", "euler"),
            "scheduler": ("COMBO", "normal"),
        },
    )
    return _drawn_and_scored(graph, graph["prompts"], graph["seeds"])


def _scoring(known: Mapping[str, Any], name: str, description: str, inputs: Mapping[str, tuple[str, Any]]) -> Subgraph:
    sockets = {
        **{"model": "MODEL", "clip": "CLIP", "vae": "VAE", "concept": "CORE_CONCEPT"},
        **{"references": "IMAGE", "compare_with": "STRING"},
    }
    fields = {"resolution": ("INT", 512), **inputs, "allow_downloads": ("BOOLEAN", False)}
    return Subgraph(name, known, {**{key: (kind, None) for key, kind in sockets.items()}, **fields}, description)


def _drawn_and_scored(graph: Subgraph, prompts: Output, seeds: Output) -> Subgraph:
    words = graph.node("CLIPTextEncode", (360, 0), (300, 90), clip=graph["clip"], text=prompts)
    _, images = sampled(graph, words["CONDITIONING"], graph["model"], seed=seeds)
    scores = graph.node(
        *("CoReScorecard", (1250, 0), (320, 420)),
        **{name: graph[name] for name in ("references", "concept", "compare_with", "allow_downloads")},
        generated=images,
        prompts=prompts,
        overwrite=True,
    )
    graph.outputs |= {"images": images, **{name: scores[name] for name in ("scores", "table", "chart", "pareto")}}
    return graph


def evaluation_prompts(graph: Subgraph, place: Point, **concept: Output) -> Node:
    """Of the subgraph's set and seeds. concept: the node's input that says what stands in {}."""
    fields = {name: graph[name] for name in ("prompt_set", "seeds_per_prompt", "seed")}
    return graph.node("CoReEvaluationPrompts", place, (320, 320), **concept, **fields)


def sampling(base: BaseModel, batches: bool = True) -> dict[str, tuple[str, Any]]:
    """Fields of a subgraph that draws. batches: it draws several pictures of one prompt."""
    return {
        "negative": ("STRING", NEGATIVE),
        "seed": ("INT", 7),
        "steps": ("INT", base.steps),
        "cfg": ("FLOAT", base.guidance),
        **({"batch_size": ("INT", base.batch)} if batches else {}),
    }


def sampled(
    graph: Subgraph, words: Output, model: Output, seed: Output | None = None, top: int = 0, clip: Output | None = None
) -> tuple[Output, Output]:
    """Latents and pictures, drawn as the subgraph's inputs say; a picture per seed where these come.

    top: where its nodes begin. clip: of the negative prompt, by default the subgraph's.
    """
    negative = graph.node(
        "CLIPTextEncode", (360, top + 140), (300, 90), clip=clip or graph["clip"], text=graph["negative"]
    )
    side = graph["resolution"]
    empty = graph.node(
        *("EmptyLatentImage", (360, top + 280), (300, 106), "One picture at a time" if seed else ""),
        **{"width": side, "height": side, "batch_size": 1 if seed else graph["batch_size"]},
    )
    sampler = graph.node(
        *("KSampler", (700, top), (270, 262)),
        **{name: graph[name] for name in ("steps", "cfg", "sampler_name", "scheduler") if name in graph.inputs},
        seed=seed or graph["seed"],
        model=model,
        positive=words,
        negative=negative["CONDITIONING"],
        latent_image=empty["LATENT"],
    )
    image = graph.node("VAEDecode", (1010, top), (200, 46), samples=sampler["LATENT"], vae=graph["vae"])
    return sampler["LATENT"], image["IMAGE"]
