"""Workflows that set a trained concept beside a model that only looks at its photos: same prompts, same seeds, and the
scores of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .graph import Graph, Node, Output, Subgraph
from .looking import WITH_PICTURE
from .parts import NAME, SD15, SDXL, BaseModel, checkpoint, evaluation_prompts, photos, sampled, sampling, table
from .routing import Point

FACE = "my-face"


@dataclass(frozen=True)
class ModelFile:
    """A file that ComfyUI's own templates use too; folder: of ComfyUI's models. The editor offers to fetch it."""

    name: str
    folder: str
    online: str

    def loaded(self, graph: Graph, node_type: str, field: str, place: Point, size: Point, **values: Any) -> Node:
        """field: the loader's input that takes the name."""
        node = graph.node(node_type, place, size, **{field: self.name}, **values)
        node.properties = {"models": [{"name": self.name, "url": self.online + self.name, "directory": self.folder}]}
        return node


ONLINE = "https://huggingface.co/{}/resolve/main/"
PHOTOMAKER = ModelFile("photomaker-v1.bin", "photomaker", ONLINE.format("TencentARC/PhotoMaker"))
KLEIN = ModelFile(
    "flux-2-klein-4b-fp8.safetensors", "diffusion_models", ONLINE.format("black-forest-labs/FLUX.2-klein-4b-fp8")
)
QWEN = ModelFile(
    "qwen_3_4b.safetensors", "text_encoders", ONLINE.format("Comfy-Org/z_image_turbo") + "split_files/text_encoders/"
)
FLUX2_VAE = ModelFile("flux2-vae.safetensors", "vae", ONLINE.format("Comfy-Org/flux2-dev") + "split_files/vae/")
EDITED = {"width": 1024, "height": 1024}
"""What FLUX.2 klein reads and draws, in pixels."""


@dataclass(frozen=True)
class Rival:
    """words: what stands for the concept in its prompts. concept: name of the file and of the photos' folder. sockets:
    what its subgraph gets beside the concept's. fields: with values that are others than the subgraph's. drawn: adds
    its nodes, from row 600 on, to a subgraph; gets its prompts with their seeds; gives its pictures."""

    name: str
    words: str
    concept: str
    base: BaseModel
    resolution: int
    prompt_set: str
    sockets: Mapping[str, str]
    drawn: Callable[[Subgraph, Node], Output]
    fields: Mapping[str, tuple[str, Any]] = field(default_factory=dict)

    @property
    def words_title(self) -> str:
        return f"{self.name}'s words"


def photomaker(known: Mapping[str, Any]) -> Graph:
    """What a training gives beyond a model that reads the photos while it draws."""
    rival = Rival(
        name="PhotoMaker",
        words="person photomaker",
        concept=FACE,
        base=SDXL,
        resolution=1024,
        prompt_set="person",
        sockets={"plain_model": "MODEL", "plain_clip": "CLIP", "photomaker": "PHOTOMAKER"},
        drawn=_photomaker_drawn,
        fields={"face_model": ("STRING", "")},
    )
    graph = Graph("Score against PhotoMaker - no training", known)
    loader = checkpoint(graph, (0, 0), 256, SDXL)
    reader = PHOTOMAKER.loaded(graph, "PhotoMakerLoader", "photomaker_model_name", (290, 740), (270, 86))
    sockets = {"plain_model": loader["MODEL"], "plain_clip": loader["CLIP"], "photomaker": reader["PHOTOMAKER"]}
    told = (
        "SDXL. PhotoMaker draws people from photos, untrained (ComfyUI uses its encoder, not its LoRA). Switch "
        "**Allow downloads** on once for CLIP and DINO; for faces fill in **Face model**."
    )
    return _compared(graph, rival, loader, photos(graph, (290, 0), title="Photos of one person", folder=FACE), sockets,
                     told, reader)  # fmt: skip


def editing(known: Mapping[str, Any]) -> Graph:
    """What a training gives beyond a model that edits one of the photos."""
    rival = Rival(
        name="FLUX.2 klein",
        words="dog from image 1",
        concept=NAME,
        base=SD15,
        resolution=512,
        prompt_set="animate",
        sockets={"edit_model": "MODEL", "edit_clip": "CLIP", "edit_vae": "VAE"},
        drawn=_edited,
    )
    graph = Graph("Score against FLUX.2 - no training", known)
    loader = checkpoint(graph, (0, 0), 256)
    model = KLEIN.loaded(graph, "UNETLoader", "unet_name", (290, 706), (270, 82))
    clip = QWEN.loaded(graph, "CLIPLoader", "clip_name", (290, 840), (270, 106), type="flux2")
    vae = FLUX2_VAE.loaded(graph, "VAELoader", "vae_name", (0, 880), (256, 60))
    sockets = {"edit_model": model["MODEL"], "edit_clip": clip["CLIP"], "edit_vae": vae["VAE"]}
    told = (
        "FLUX.2 klein (4 steps) edits your first photo, untrained. In its prompts stands *dog from image 1*: write "
        "what yours is. Switch **Allow downloads** on once for CLIP and DINO."
    )
    return _compared(graph, rival, loader, photos(graph, (290, 0)), sockets, told, model, clip, vae)


def _compared(
    graph: Graph, rival: Rival, loader: Node, pictures: Node, sockets: Mapping[str, Output], told: str, *loaders: Node
) -> Graph:
    """The whole workflow. sockets, loaders: the rival's; told: the note's text."""
    draw, show, tell = 596, 930, 1276
    graph.note((draw, 690), (300, 150), told)
    concept = graph.node(
        *("CoReLoadConcept", (0, 190), (256, WITH_PICTURE)),
        **{"model": loader["MODEL"], "clip": loader["CLIP"], "file": f"embeddings/{rival.concept}.safetensors"},
    )
    drawn = graph.place(
        *(scored_both(graph.known, rival), (draw, 0), (300, 600)),
        **{name: concept[name] for name in ("model", "clip", "concept", "resolution")},
        **{"vae": loader["VAE"], "references": pictures["images"], **sockets},
    )
    both = {"concept": "your concept", "rival": rival.name}
    saved = [
        graph.node(
            *("SaveImage", (show, 420 * row), (310, 340), f"{title[0].upper()}{title[1:]} (pictures)"),
            images=drawn[f"{which}_images"],
            filename_prefix=f"{rival.concept}/{title.lower().replace(' ', '-')}",
        )
        for row, (which, title) in enumerate(both.items())
    ]
    pareto = graph.node("PreviewImage", (tell, 0), (290, 250), "Concept against prompt", images=drawn["pareto"])
    tables = [
        table(graph, (tell, 330 + 260 * row), (290, 190), f"Scores of {title}", drawn[f"{which}_table"])
        for row, (which, title) in enumerate(both.items())
    ]
    graph.group("1 · Model, concept and photos", loader, concept, pictures, *loaders)
    graph.group("2 · Draw and score", drawn)
    graph.group("3 · Side by side", *saved)
    graph.group("4 · How good is it?", pareto, *tables)
    return graph


def scored_both(known: Mapping[str, Any], rival: Rival) -> Subgraph:
    """The concept and its rival in the same evaluation prompts, with the same seeds, and the scores of both."""
    sockets = {
        **{"model": "MODEL", "clip": "CLIP", "vae": "VAE", "concept": "CORE_CONCEPT"},
        **rival.sockets,
        "references": "IMAGE",
    }
    graph = Subgraph(
        "Draw and score both",
        known,
        {
            **{name: (kind, None) for name, kind in sockets.items()},
            **{"resolution": ("INT", rival.resolution), "prompt_set": ("COMBO", rival.prompt_set)},
            **{"seeds_per_prompt": ("INT", 1), **sampling(rival.base, batches=False)},
            **{"value": ("STRING", rival.words), **rival.fields, "allow_downloads": ("BOOLEAN", False)},
        },
        f"Draws a concept, and {rival.name} from its photos alone, in the same prompts; scores both.",
        labels={"value": rival.words_title},
    )
    shared = {name: graph[name] for name in ("references", "concept", *rival.fields, "allow_downloads")}
    told = evaluation_prompts(graph, (-360, 0), concept=graph["concept"])
    words = graph.node("CLIPTextEncode", (0, 0), (300, 90), clip=graph["clip"], text=told["prompts"])
    _, concept = sampled(graph, words["CONDITIONING"], graph["model"], told["seeds"])
    scores = graph.node(
        *("CoReScorecard", (1250, 0), (320, 420)), **shared, generated=concept, prompts=told["prompts"], overwrite=True
    )
    called = graph.node("PrimitiveString", (-720, 600), (300, 60), rival.words_title, value=graph["value"])["STRING"]
    told = evaluation_prompts(graph, (-360, 600), concept_text=called)
    pictures = rival.drawn(graph, told)
    rivals = graph.node(
        *("CoReScorecard", (1250, 600), (320, 420)),
        **{**shared, "generated": pictures, "prompts": told["prompts"], "compare_with": scores["scores"]},
        **{"identifier": called, "scorecard_name": rival.name.replace(" ", "-"), "overwrite": True},
    )
    graph.outputs |= {"concept_images": concept, "rival_images": pictures, "pareto": rivals["pareto"]}
    graph.outputs |= {"concept_table": scores["table"], "rival_table": rivals["table"]}
    return graph


def _photomaker_drawn(graph: Subgraph, told: Node) -> Output:
    faces = graph.node(
        *("PhotoMakerEncode", (0, 600), (300, 130)),
        **{"photomaker": graph["photomaker"], "clip": graph["plain_clip"], "text": told["prompts"]},
        image=_batch(graph, 512)["IMAGE"],
    )
    model, clip = graph["plain_model"], graph["plain_clip"]
    return sampled(graph, faces["CONDITIONING"], model, told["seeds"], top=600, clip=clip)[1]


def _edited(graph: Subgraph, told: Node) -> Output:
    """As ComfyUI's own template of FLUX.2 klein 4B (distilled) has it; a picture for each prompt."""
    first = graph.node(
        *("ImageFromBatch", (-360, 1290), (300, 90), "The first photo"),
        **{"image": _batch(graph, EDITED["width"])["IMAGE"], "batch_index": 0, "length": 1},
    )
    seen = graph.node("VAEEncode", (0, 1290), (240, 46), pixels=first["IMAGE"], vae=graph["edit_vae"])
    words = graph.node("CLIPTextEncode", (0, 600), (300, 90), clip=graph["edit_clip"], text=told["prompts"])
    nothing = graph.node("ConditioningZeroOut", (0, 760), (300, 30), conditioning=words["CONDITIONING"])
    positive, negative = (
        graph.node(
            *("ReferenceLatent", (340, 600 + 160 * row), (240, 50)),
            **{"conditioning": each["CONDITIONING"], "latent": seen["LATENT"]},
        )["CONDITIONING"]
        for row, each in enumerate((words, nothing))
    )
    column, width = 620, 240
    guider = graph.node(
        *("CFGGuider", (column, 600), (width, 100)),
        **{"model": graph["edit_model"], "positive": positive, "negative": negative, "cfg": 1.0},
    )
    noise = graph.node("RandomNoise", (column, 750), (width, 82), noise_seed=told["seeds"])
    sampler = graph.node("KSamplerSelect", (column, 880), (width, 60), sampler_name="euler")
    sigmas = graph.node("Flux2Scheduler", (column, 990), (width, 106), steps=4, **EDITED)
    empty = graph.node("EmptyFlux2LatentImage", (column, 1150), (width, 106), batch_size=1, **EDITED)
    latent = graph.node(
        *("SamplerCustomAdvanced", (920, 600), (width, 110)),
        **{"noise": noise["NOISE"], "guider": guider["GUIDER"], "sampler": sampler["SAMPLER"]},
        **{"sigmas": sigmas["SIGMAS"], "latent_image": empty["LATENT"]},
    )
    return graph.node("VAEDecode", (920, 760), (200, 46), samples=latent["output"], vae=graph["edit_vae"])["IMAGE"]


def _batch(graph: Subgraph, side: int) -> Node:
    """The photos, cut square, as one batch."""
    square = graph.node("ImageScale", (-360, 1000), (300, 130), "All of one size", image=graph["references"],
                        **{"width": side, "height": side, "crop": "center"})  # fmt: skip
    return graph.node("RebatchImages", (-360, 1190), (300, 60), "As one batch", images=square["IMAGE"], batch_size=4096)
