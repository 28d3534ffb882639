"""Workflows that train a concept and draw it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graph import Graph, Node, Output
from .parts import NAME, NEGATIVE, SD15, SDXL, BaseModel, checkpoint, drawing, models, photos

CORE: Mapping[str, Any] = {}
"""What templates set of CoRe beside its published values."""
LORA: Mapping[str, Any] = {
    "preset": "DreamBooth LoRA",
    "scope": "attention layers",
    "form": "LoRA",
    "steps": 500,
    "batch_size": 1,
    "learning_rate": 1e-4,
}
TRAINING_HEIGHT = 800
DRAWING = (250, 340)
PICTURES = (250, 300)


def quick_start(known: Mapping[str, Any], name: str = "Train my dog - quick start") -> Graph:
    """In plain nodes, so that it can be taken apart."""
    graph = Graph(name, known)
    learn, prompts, sample, decode, show = 266, 636, 916, 1186, 1350
    graph.note(
        *((0, 300), (240, 210)),
        "1. Choose your checkpoint, and a folder in ComfyUI's `input` with about four photos.\n"
        "2. Name it, and say what it is.\n"
        "3. **Run**. Then write `embedding:my-dog` in any prompt.",
    )
    loader, pictures = checkpoint(graph, (0, 0), 240), photos(graph, (0, 170), 240)
    train = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (330, TRAINING_HEIGHT)),
        **models(loader),
        images=pictures["images"],
        concept_name=NAME,
        **CORE,
    )
    prompt = graph.node(
        *("CoReConceptPrompt", (prompts, 0), (250, 110), "Your prompt"),
        concept=train["concept"],
        template="a photo of a {} in the jungle",
    )
    past = models(loader, over=(learn, prompts))
    words = graph.node(
        *("CLIPTextEncode", (prompts, 190), (250, 88)),
        clip=past["clip"],
        text=prompt["prompt"].around(prompts + 264, prompts - 8, 140),
    )
    negative = graph.node(
        "CLIPTextEncode", (prompts, 330), (250, 100), "What to avoid", clip=past["clip"], text=NEGATIVE
    )
    side = train["resolution"]
    latent = graph.node(
        *("EmptyLatentImage", (prompts, 490), (250, 106)), width=side, height=side, batch_size=SD15.batch
    )
    sampler = graph.node(
        *("KSampler", (sample, 0), (250, 262)),
        model=models(loader, over=(learn, sample))["model"],
        positive=words["CONDITIONING"],
        negative=negative["CONDITIONING"],
        latent_image=latent["LATENT"],
        **{"seed": 7, "steps": SD15.steps, "cfg": SD15.guidance},
    )
    vae = models(loader, over=(learn, decode))["vae"]
    images = graph.node("VAEDecode", (decode, 0), (140, 46), samples=sampler["LATENT"], vae=vae)
    saved = graph.node("SaveImage", (show, 0), (230, 320), images=images["IMAGE"], filename_prefix=NAME)
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · Learn it", train)
    graph.group("3 · Use it in any prompt", prompt, latent, saved)
    return graph


def form(known: Mapping[str, Any]) -> Graph:
    """The quick start in app mode."""
    graph = quick_start(known, "Train my dog - form.app")
    fields = {
        "CheckpointLoaderSimple": ("ckpt_name",),
        "LoadImageDataSetFromFolder": ("folder",),
        "CoReTrainEmbedding": ("concept_name", "super_category"),
        "CoReConceptPrompt": ("template",),
    }
    inputs = [[str(node.id), name] for node in graph.nodes for name in fields.get(node.type, ())]
    outputs = [str(node.id) for node in graph.nodes if node.type == "SaveImage"]
    graph.extra = {"linearMode": True, "linearData": {"inputs": inputs, "outputs": outputs}}
    return graph


def word_and_lora(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train my dog - word and LoRA", known)
    note = (
        "A word for it, then its looks as a LoRA; on the right without and with it. With 16 GB choose preset *CoRe "
        "stage 2* for the published full weights.\n\nOne node for both: search *CoRe in two stages*."
    )
    return _two_stages(graph, note, SD15, NAME, word=CORE, looks={})


def sdxl(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train SDXL - word and LoRA", known)
    note = (
        "For SDXL and its fine-tunes, from 12 GB. Photos of 1024 pixels or more are best.\n\nBlack pictures? Take a "
        "VAE made for fp16 (*Load VAE*). 8 GB? Set `offload` to 1 in both trainings."
    )
    saving = {"gradient_checkpointing": True}
    word = {"batch_size": 2, "gradient_accumulation": 3, **saving, **CORE}
    return _two_stages(graph, note, SDXL, "my-dog-xl", word=word, looks=saving)


def _two_stages(
    graph: Graph, note: str, base: BaseModel, name: str, *, word: Mapping[str, Any], looks: Mapping[str, Any]
) -> Graph:
    """A word, a LoRA of its looks, the same prompt and seed without and with it, and one file of both."""
    learn, tune, draw, show = 284, 656, 1050, 1328
    graph.note((0, 300), (260, 230), note)
    loader, pictures = checkpoint(graph, (0, 0), 260, base), photos(graph, (0, 170), 260)
    stage_1 = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (340, TRAINING_HEIGHT), "Stage 1 · a word for it"),
        **models(loader),
        images=pictures["images"],
        **{"concept_name": name, **word},
    )
    stage_2 = graph.node(
        *("CoReUNetIdentityFinetune", (tune, 0), (340, TRAINING_HEIGHT), "Stage 2 · its looks"),
        **models(loader, over=(learn, tune)),
        images=pictures["images"].over(learn - 4, tune - 6, 3),
        concept=stage_1["concept"],
        **{"name": name, **LORA, **looks},
    )
    drawings = _compared(graph, drawing(graph.known, base), (draw, show), loader, learn, stage_2)
    saved = graph.node(
        *("CoReSaveConcept", (show, 680), (250, 140), "One file to share"),
        concept=stage_2["concept"].by((draw - 36, 790), (show - 14, 790)),
        lora=stage_2["lora"].by((draw - 42, 800), (show - 10, 800)),
        preview=drawings[-1]["images"].by((show - 6, 660)),
        name=f"{name}-shared",
    )
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · Learn it", stage_1, stage_2)
    graph.group("3 · Use it in any prompt", *drawings, saved)
    return graph


def _compared(
    graph: Graph, draw: Any, columns: tuple[int, int], loader: Node, past: int, stage: Node, before: Node | None = None
) -> list[Node]:
    """The same prompt and seed: above with the model of `before`, or of the loader, below with that of `stage`."""
    left, show = columns
    found = models(loader, over=(past, left))
    lower = {name: _down(output, left - 16 + 4 * lane, 400) for lane, (name, output) in enumerate(found.items())}
    shared = {"concept": stage["concept"], "resolution": stage["resolution"]}
    found["model"] = found["model"] if before is None else before["model"]
    above = graph.place(draw, (left, 0), DRAWING, "Before", **found, **shared)
    lower["model"] = stage["model"]
    below = graph.place(draw, (left, 410), DRAWING, "After", **lower, **shared)
    for node, place in ((above, (show, 0)), (below, (show, 340))):
        graph.node("SaveImage", place, PICTURES, f"{node.title} (pictures)", images=node["images"],
                   filename_prefix=f"{NAME}/{node.title.lower()}")  # fmt: skip
    return [above, below]


def _down(output: Output, left: int, height: int) -> Output:
    return output.by(*output.through, (left, height))


def three_stages(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train with AttnDreamBooth - three stages", known)
    learn, look, tune, draw = 240, 566, 902, 1280
    graph.note(
        *((0, 300), (210, 230)),
        "A word before *dog*, then where it looks, then its looks (Pang et al. 2024).\n\nSet as LoRAs for 8 GB. With "
        "24 GB choose both presets again for the published full weights.",
    )
    loader, pictures = checkpoint(graph, (0, 0), 210), photos(graph, (0, 170), 210)
    name = f"{NAME}-attn"
    stage_1 = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (300, TRAINING_HEIGHT), "Stage 1 · a word"),
        **models(loader),
        images=pictures["images"],
        **{"concept_name": name, "method": "AttnDreamBooth stage 1"},
        **{"steps": 60, "batch_size": 8, "learning_rate": 1e-3, "augmentation": 16},
    )
    aligned = {"form": "LoRA", "alignment_mean": 2.0, "alignment_variance": 5.0, "batch_size": 2}
    stage_2 = graph.node(
        *("CoReUNetIdentityFinetune", (look, 0), (310, TRAINING_HEIGHT), "Stage 2 · where it looks"),
        **models(loader, over=(learn, look)),
        images=pictures["images"].over(learn - 2, look - 4, 3),
        concept=stage_1["concept"],
        **{"name": f"{name}-2", "preset": "AttnDreamBooth stage 2", "scope": "cross-attention layers", **aligned},
        **{"steps": 100, "learning_rate": 2e-4, "gradient_accumulation": 4},
    )
    third = models(loader, over=(learn, tune))
    third["model"] = stage_2["model"]
    stage_3 = graph.node(
        *("CoReUNetIdentityFinetune", (tune, 0), (310, TRAINING_HEIGHT), "Stage 3 · its looks"),
        **third,
        images=pictures["images"].over(learn - 2, tune - 4, 3),
        concept=stage_2["concept"],
        **{"name": f"{name}-3", "preset": "AttnDreamBooth stage 3 (fast)", "scope": "attention layers", **aligned},
        **{"steps": 200, "learning_rate": 1e-4, "gradient_accumulation": 2},
    )
    found = models(loader, over=(learn, draw))
    found["model"] = stage_3["model"]
    drawn = graph.place(
        *(drawing(known), (draw, 0), (270, 350)),
        **found,
        **{key: stage_3[key] for key in ("concept", "resolution")},
    )
    saved = graph.node(
        *("SaveImage", (draw, 440), (270, 330)),
        images=drawn["images"].around(draw + 290, draw - 12, 385),
        filename_prefix=name,
    )
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · Learn it", stage_1, stage_2, stage_3)
    graph.group("3 · Use it in any prompt", drawn, saved)
    return graph


def dreambooth_lora(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train a DreamBooth LoRA", known)
    note = (
        "Teaches a rare word: *sks dog* (Ruiz et al. 2023). Dogs of the model itself, drawn first, keep other dogs as "
        "they are. The paper takes 200: raise `batch_size` there."
    )
    return _with_class_images(graph, note, "sks", {"name": f"{NAME}-dreambooth", **LORA})


def custom_diffusion(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train with Custom Diffusion", known)
    note = (
        "Trains keys and values of cross-attention, and the word *ktn* along (Kumari et al. 2023). Dogs of the model "
        "itself, drawn first, keep other dogs as they are. The paper takes 200."
    )
    settings = {
        **{"preset": "Custom Diffusion", "scope": "keys and values of cross-attention", "form": "full weights"},
        **{"steps": 250, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 8e-5},
        **{"train_embedding": True, "gradient_checkpointing": True, "save": "LoRA"},
    }
    return _with_class_images(graph, note, "ktn", {"name": f"{NAME}-custom", **settings})


def _with_class_images(graph: Graph, note: str, word: str, looks: Mapping[str, Any]) -> Graph:
    """A rare word's looks, with pictures of the super-category that the model drew itself."""
    others, tune, draw, show = 284, 600, 994, 1290
    graph.note((0, 490), (256, 260), note)
    loader, pictures = checkpoint(graph, (0, 0), 256), photos(graph, (0, 170), 256)
    rare = graph.node(
        *("CoReConceptFromWords", (0, 300), (256, 126), "A rare word"),
        clip=loader["CLIP"].around(268, -12, 130),
        words=word,
    )
    draw_it = drawing(graph.known)
    dogs = graph.node(
        "CoReConceptFromWords", (others, 0), (280, 126), "Other dogs", clip=loader["CLIP"], words="dog",
        with_category=False,
    )  # fmt: skip
    class_images = graph.place(
        *(draw_it, (others, 200), (280, 350), "Draw other dogs"),
        **{name: output.by((others - 18 + 4 * lane, 170 + 8 * lane)) for lane, (name, output) in
           enumerate(models(loader).items())},
        concept=dogs["concept"].around(others + 292, others - 6, 150),
        **{"template": "a photo of a {}", "batch_size": 8, "seed": 11},
    )  # fmt: skip
    stage = graph.node(
        *("CoReUNetIdentityFinetune", (tune, 0), (330, TRAINING_HEIGHT), "Its looks"),
        **models(loader, over=(others, tune)),
        images=pictures["images"].over(others - 4, tune - 6, 3),
        concept=rare["concept"].by((others - 14, 600), (tune - 22, 600)),
        class_images=class_images["images"],
        **looks,
    )
    drawings = _compared(graph, draw_it, (draw, show), loader, others, stage)
    graph.group("1 · Model and photos", loader, pictures, rare)
    graph.group("2 · Other dogs", dogs, class_images)
    graph.group("3 · Learn its looks", stage)
    graph.group("4 · Use it in any prompt", *drawings)
    return graph


def captions(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train with captions - say everything but the dog", known)
    say, learn, draw = 424, 790, 1190
    graph.note(
        *((210, 0), (186, 240)),
        "Four photos on one sofa teach the sofa. A caption tells everything *but* your dog (SID, Kim et al. 2024): one "
        "line per photo, in their order. Or connect a vision-language model.",
    )
    loader = checkpoint(graph, (0, 0), 190)
    places = ((0, 310), (206, 310), (0, 580), (206, 580))
    loaded = [
        graph.node("LoadImage", place, (190, 220), f"Photo {number + 1}", image=f"{NAME}-{number}.png")
        for number, place in enumerate(places)
    ]
    batch = graph.node(
        *("BatchImagesNode", (say, 560), (330, 110), "In this order"),
        images=[photo["IMAGE"] for photo in loaded],
    )
    told = graph.node(
        *("CoReSelectiveCaption", (say, 0), (330, 480)),
        images=batch["IMAGE"].around(say + 342, say - 14, 520),
        own_captions="\n".join(CAPTIONS),
    )
    train = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (340, TRAINING_HEIGHT)),
        **models(loader, over=(say, learn)),
        images=batch["IMAGE"],
        captions=told["captions"],
        **{"concept_name": f"{NAME}-sid", **CORE},
    )
    drawn = graph.place(
        *(drawing(known), (draw, 0), (280, 350)),
        **models(loader, over=(say, draw)),
        **{key: train[key] for key in ("concept", "resolution")},
    )
    saved = graph.node(
        *("SaveImage", (draw, 440), (280, 330)),
        images=drawn["images"].around(draw + 300, draw - 12, 385),
        filename_prefix=f"{NAME}-sid",
    )
    graph.group("1 · Model and photos", loader, *loaded)
    graph.group("2 · Say everything but the dog", told, batch)
    graph.group("3 · Learn it", train)
    graph.group("4 · Use it in any prompt", drawn, saved)
    return graph


CAPTIONS = (
    "a photo of a {} standing in the garden, in front of a white fence",
    "a photo of a {} lying on a grey sofa, beside a red cushion",
    "a photo of a {} sitting on the beach, wearing a blue collar",
    "a photo of a {} running in the park, with a ball in its mouth",
)
