"""Workflows that train a concept and draw it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graph import Graph, Node, Output, Subgraph
from .parts import (
    NAME,
    NEGATIVE,
    NOTE,
    OTHER,
    SD15,
    SDXL,
    BaseModel,
    checkpoint,
    drawing,
    drawing_of_both,
    models,
    photos,
    photos_with_auto_masks,
    pictures_of,
)

CORE: Mapping[str, Any] = {"weighting": "balanced"}
"""What templates set of CoRe beside its published values: with the published λ the regularizers hardly act."""
BEFORE_LORA: Mapping[str, Any] = {**CORE, "embedding_share": 0.3, "attention_share": 0.3}
"""Stronger where a LoRA follows, which brings back the looks that the embedding loses (docs/quality.md)."""
LORA: Mapping[str, Any] = {
    "preset": "DreamBooth LoRA",
    "scope": "attention layers",
    "form": "LoRA",
    "steps": 500,
    "batch_size": 1,
    "learning_rate": 1e-4,
}
TRAINING_HEIGHT = 940
"""With what a training says when it is done, its pictures and its curves."""
PROMPTS = 648
"""The column of prompts in graphs of plain nodes."""
DRAWING = (250, 394)
PICTURES = (234, 300)


def quick_start(known: Mapping[str, Any], name: str = "Train my dog - quick start") -> Graph:
    """In plain nodes, so that it can be taken apart."""
    graph = Graph(name, known)
    learn, prompts = 304, PROMPTS
    graph.note(
        *((prompts, 690), (530, 110)),
        "1. Choose your checkpoint; **Upload photos …**, about four, or choose their folder.\n"
        "2. Name it, and say what it is.\n"
        "3. **Run**. Then write **embedding:my-dog** in any prompt.",
    )
    loader, pictures = checkpoint(graph, (0, 0), 270), photos(graph)
    train = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (310, TRAINING_HEIGHT)),
        **models(loader),
        **pictures_of(pictures),
        **{"concept_name": NAME, **CORE},
    )
    prompt = graph.node(
        *("CoReConceptPrompt", (prompts, 0), (250, 110), "Your prompt"),
        concept=train["concept"],
        template="a photo of a {} in the jungle",
    )
    words = graph.node("CLIPTextEncode", (prompts, 210), (250, 88), clip=loader["CLIP"], text=prompt["prompt"])
    latent, saved = _in_plain_nodes(
        graph, loader, 360, train["resolution"], model=loader["MODEL"], positive=words["CONDITIONING"], prefix=NAME
    )
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · Learn it", train)
    graph.group("3 · Use it in any prompt", prompt, latent, saved)
    return graph


def _in_plain_nodes(
    graph: Graph, loader: Node, top: int, side: Output, *, model: Output, positive: Output, prefix: str
) -> tuple[Node, Node]:
    """What a prompt is drawn with, from a place in its column on; returns the empty latent and the saved pictures."""
    sample, show = 932, 1216
    negative = graph.node(
        "CLIPTextEncode", (PROMPTS, top), (250, 100), "What to avoid", clip=loader["CLIP"], text=NEGATIVE
    )
    latent = graph.node(
        *("EmptyLatentImage", (PROMPTS, top + 150), (250, 118)), width=side, height=side, batch_size=SD15.batch
    )
    sampler = graph.node(
        *("KSampler", (sample, 0), (250, 262)),
        model=model,
        positive=positive,
        negative=negative["CONDITIONING"],
        latent_image=latent["LATENT"],
        **{"seed": 7, "steps": SD15.steps, "cfg": SD15.guidance},
    )
    images = graph.node("VAEDecode", (sample, 340), (250, 46), samples=sampler["LATENT"], vae=loader["VAE"])
    return latent, graph.node("SaveImage", (show, 0), (350, 480), images=images["IMAGE"], filename_prefix=prefix)


def form(known: Mapping[str, Any]) -> Graph:
    """The quick start in app mode."""
    graph = quick_start(known, "Train my dog - form.app")
    fields = {
        "CheckpointLoaderSimple": ("ckpt_name",),
        "CoReConceptImages": ("folder",),
        "CoReTrainEmbedding": ("concept_name", "super_category"),
        "CoReConceptPrompt": ("template",),
    }
    labels = {"ckpt_name": "Checkpoint", "folder": "Folder of photos"}
    inputs = []
    for node in graph.nodes:
        for name in fields.get(node.type, ()):
            inputs.append([str(node.id), name])
            if name in labels:
                node.inputs.append({"name": name, "type": "COMBO", "link": None, "widget": {"name": name},
                                    "label": labels[name]})  # fmt: skip
    outputs = [str(node.id) for node in graph.nodes if node.type == "SaveImage"]
    graph.extra = {"linearMode": True, "linearData": {"inputs": inputs, "outputs": outputs}}
    return graph


def by_layer(known: Mapping[str, Any]) -> Graph:
    """A word that the U-Net reads in its own way in each layer."""
    graph = Graph("Train a word by layer - XTI and NeTI", known)
    learn, prompts = 304, PROMPTS
    graph.note(
        *((prompts, 690), (530, 110)),
        "Each layer of the U-Net has an embedding of its own (XTI), or a small network gives it by layer and timestep "
        "(choose **Method** *NeTI*); the model stays untouched. *Apply Concept* draws it.",
    )
    loader, pictures = checkpoint(graph, (0, 0), 270), photos(graph)
    train = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (310, TRAINING_HEIGHT), "A word for each layer"),
        **models(loader),
        **pictures_of(pictures),
        **{"concept_name": f"{NAME}-layers", "method": "XTI (P+)", "steps": 500, "batch_size": 2},
        **{"gradient_accumulation": 4, "gradient_checkpointing": True},
    )
    applied = graph.node(
        *("CoReApplyConcept", (prompts, 0), (250, 170), "Your prompt"),
        **{"model": loader["MODEL"], "clip": loader["CLIP"], "concept": train["concept"]},
        template="a photo of a {} in the jungle",
    )
    latent, saved = _in_plain_nodes(
        graph,
        loader,
        290,
        train["resolution"],
        model=applied["model"],
        positive=applied["conditioning"],
        prefix=f"{NAME}-layers",
    )
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · Learn it", train)
    graph.group("3 · Use it in any prompt", applied, latent, saved)
    return graph


def two_methods(known: Mapping[str, Any]) -> Graph:
    """The same photos, prompt and seed with the words of two methods."""
    graph = Graph("Train with two methods - side by side", known)
    draw, show = 992, 1276
    graph.note(
        *NOTE,
        "Which method suits your concept and your model? Choose one in each training: its published values fill "
        "in. The same photos, prompt and seed.\n\nXTI and NeTI have a template of their own.",
    )
    loader, pictures = checkpoint(graph, (0, 0), 270), photos(graph)
    others = {"steps": 400, "batch_size": 4, "learning_rate": 0.04}
    trained = [
        graph.node(
            *("CoReTrainEmbedding", (left, 0), (310, TRAINING_HEIGHT), title),
            **models(loader),
            **pictures_of(pictures),
            **{"concept_name": f"{NAME}-{name}", "method": method, **values},
        )
        for title, left, name, method, values in (
            ("One method", 304, "core", "CoRe", CORE),
            ("Another method", 648, "dti", "Directional Textual Inversion", others),
        )
    ]
    drawings = []
    for row, word in enumerate(trained):
        drawn = graph.place(
            *(drawing(known), (draw, 440 * row), DRAWING, f"{word.title}, drawn"),
            **models(loader),
            **{key: word[key] for key in ("concept", "resolution")},
        )
        saved = graph.node(
            *("SaveImage", (show, 440 * row), PICTURES, f"{word.title} (pictures)"),
            images=drawn["images"],
            filename_prefix=f"{NAME}/{word.title.lower()}",
        )
        drawings += [drawn, saved]
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · Learn it", *trained)
    graph.group("3 · Use it in any prompt", *drawings)
    return graph


def word_and_lora(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train my dog - word and LoRA", known)
    note = (
        "An embedding, then its looks as a LoRA; right: without and with it. With 16 GB choose *CoRe stage 2* as "
        "**Method (fills in)** for the published full weights.\n\nOne node for both: search *CoRe in two stages*."
    )
    return _two_stages(graph, note, SD15, NAME, word=BEFORE_LORA, looks={})


def sdxl(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train SDXL - word and LoRA", known)
    note = (
        "For SDXL and its fine-tunes, from 12 GB. Photos of 1024 pixels or more are best.\n\nBlack pictures? Take a "
        "VAE made for fp16 (*Load VAE*). 8 GB? Set **Part kept in main memory** to 1 in both trainings."
    )
    saving = {"gradient_checkpointing": True}
    word = {"batch_size": 2, "gradient_accumulation": 3, **saving, **BEFORE_LORA}
    return _two_stages(graph, note, SDXL, f"{NAME}-xl", word=word, looks=saving)


def _two_stages(
    graph: Graph, note: str, base: BaseModel, name: str, *, word: Mapping[str, Any], looks: Mapping[str, Any]
) -> Graph:
    """A word, a LoRA of its looks, the same prompt and seed without and with it, and one file of both."""
    learn, tune, draw, show = 304, 656, 1028, 1310
    graph.note((draw, 862), (262, 84), note)
    loader = checkpoint(graph, (0, 0), 270, base)
    pictures, masks = photos_with_auto_masks(graph)
    stage_1 = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (320, TRAINING_HEIGHT), "Stage 1 · a word for it"),
        **models(loader),
        **pictures_of(pictures, masks),
        **{"concept_name": name, **word},
    )
    stage_2 = graph.node(
        *("CoReUNetIdentityFinetune", (tune, 0), (320, TRAINING_HEIGHT), "Stage 2 · its looks"),
        **models(loader),
        **pictures_of(pictures, masks),
        concept=stage_1["concept"],
        **{"name": name, **LORA, **looks},
    )
    drawings = _compared(graph, drawing(graph.known, base), (draw, show), loader, stage_2)
    saved = graph.node(
        *("CoReSaveConcept", (show, 690), (264, 250), "One file to share"),
        concept=stage_2["concept"],
        lora=stage_2["lora"],
        preview=drawings[-1]["images"],
        name=f"{name}-shared",
    )
    graph.group("1 · Model and photos", loader, pictures, masks)
    graph.group("2 · Learn it", stage_1, stage_2)
    graph.group("3 · Use it in any prompt", *drawings, saved)
    return graph


def two_pets(known: Mapping[str, Any]) -> Graph:
    """A word for each of two concepts, and one LoRA of the looks of both."""
    graph = Graph("Train my dog and my cat - one LoRA", known)
    second, learn, tune, draw = 304, 608, 922, 1246
    graph.note(
        *((second, 740), (270, 130)),
        "An embedding for each, then one LoRA that knows both. *Also Train* brings the second; **{}** is the first "
        "in your prompt, **{2}** the second.\n\nA third? One more *Also Train*, into **also** of the first.",
    )
    loader = checkpoint(graph, (0, 0), 270)
    dog = photos(graph, title="Your dog's photos")
    cat = photos(graph, (second, 0), title="Your cat's photos", folder=OTHER)
    words = []
    for top, title, pictures, name, kind in (
        (0, "A word for your dog", dog, NAME, "dog"),
        (320, "A word for your cat", cat, OTHER, "cat"),
    ):
        taken = {key: value for key, value in pictures_of(pictures).items() if key != "fit"}
        word = _word_as_a_node(known, title, name, kind)
        words.append(graph.place(word, (learn, top), (270, 250), title, **models(loader), **taken))
    also = graph.node("CoReAlsoTrain", (learn, 650), (270, 180), concept=words[1]["concept"], **taken)
    looks = graph.node(
        *("CoReUNetIdentityFinetune", (tune, 0), (280, TRAINING_HEIGHT), "The looks of both"),
        **models(loader),
        **pictures_of(dog),
        concept=words[0]["concept"],
        also=also["also"],
        **{"name": "my-pets", **LORA, "steps": 2 * LORA["steps"]},
    )
    both = graph.place(
        *(drawing_of_both(known), (draw, 0), (270, 410), "Both in one picture"),
        **{**models(loader), "model": looks["model"]},
        **{key: looks[key] for key in ("concept", "concept_2", "resolution")},
    )
    saved = graph.node("SaveImage", (draw, 450), (270, 300), images=both["images"], filename_prefix="my-pets")
    graph.group("1 · Model and photos", loader, dog, cat)
    graph.group("2 · Learn it", *words, also)
    graph.group("3 · Learn its looks", looks)
    graph.group("4 · Use it in any prompt", both, saved)
    return graph


def _word_as_a_node(known: Mapping[str, Any], title: str, name: str, kind: str) -> Subgraph:
    """A training of a word with the two fields that differ."""
    sockets = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "images": "IMAGE", "masks": "MASK", "captions": "STRING"}
    sockets["photos"] = "CORE_PHOTOS"
    inputs = {**{key: (type_, None) for key, type_ in sockets.items()}, "concept_name": ("STRING", name)}
    inner = Subgraph(
        title,
        known,
        {**inputs, "super_category": ("STRING", kind)},
        "Learns a word for your thing.",
        optional=("masks", "captions", "photos"),
    )
    taken = {key: inner[key] for key in inner.inputs}
    word = inner.node("CoReTrainEmbedding", (0, 0), (340, 800), title, **taken, **{"fit": "keep", **BEFORE_LORA})
    inner.outputs["concept"] = word["concept"]
    return inner


def _compared(graph: Graph, draw: Subgraph, columns: tuple[int, int], loader: Node, stage: Node) -> list[Node]:
    """The same prompt and seed: above with the loader's model, below with that of the stage."""
    left, show = columns
    drawings = []
    for row, (title, model) in enumerate((("Before", loader["MODEL"]), ("After", stage["model"]))):
        drawn = graph.place(
            *(draw, (left, 430 * row), DRAWING, title),
            **{**models(loader), "model": model},
            **{name: stage[name] for name in ("concept", "resolution")},
        )
        graph.node("SaveImage", (show, 340 * row), PICTURES, f"{title} (pictures)", images=drawn["images"],
                   filename_prefix=f"{NAME}/{title.lower()}")  # fmt: skip
        drawings.append(drawn)
    return drawings


def three_stages(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train with AttnDreamBooth - three stages", known)
    learn, look, tune, draw = 304, 628, 952, 1292
    graph.note(
        *NOTE,
        "An embedding before *dog*, then where it looks, then its looks (Pang et al. 2024).\n\nSet as LoRAs for 8 "
        "GB. With 24 GB choose **Method (fills in)** again in both last stages for the published full weights.",
    )
    loader, pictures = checkpoint(graph, (0, 0), 270), photos(graph)
    name = f"{NAME}-attn"
    stage_1 = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (290, TRAINING_HEIGHT), "Stage 1 · a word"),
        **models(loader),
        **pictures_of(pictures),
        **{"concept_name": name, "method": "AttnDreamBooth stage 1"},
        **{"steps": 60, "batch_size": 8, "learning_rate": 1e-3, "augmentation": 16},
    )
    aligned = {"form": "LoRA", "alignment_mean": 2.0, "alignment_variance": 5.0, "batch_size": 2}
    stage_2 = graph.node(
        *("CoReUNetIdentityFinetune", (look, 0), (290, TRAINING_HEIGHT), "Stage 2 · where it looks"),
        **models(loader),
        **pictures_of(pictures),
        concept=stage_1["concept"],
        **{"name": f"{name}-2", "preset": "AttnDreamBooth stage 2", "scope": "cross-attention layers", **aligned},
        **{"steps": 100, "learning_rate": 2e-4, "gradient_accumulation": 4},
    )
    stage_3 = graph.node(
        *("CoReUNetIdentityFinetune", (tune, 0), (290, TRAINING_HEIGHT), "Stage 3 · its looks"),
        **{**models(loader), "model": stage_2["model"]},
        **pictures_of(pictures),
        concept=stage_2["concept"],
        **{"name": f"{name}-3", "preset": "AttnDreamBooth stage 3 (fast)", "scope": "attention layers", **aligned},
        **{"steps": 200, "learning_rate": 1e-4, "gradient_accumulation": 2},
    )
    drawn = _drawn(graph, (draw, 0), loader, stage_3, name)
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · Learn it", stage_1, stage_2, stage_3)
    graph.group("3 · Use it in any prompt", *drawn)
    return graph


def _drawn(graph: Graph, place: tuple[int, int], loader: Node, trained: Node, name: str) -> list[Node]:
    """One prompt; the pictures below it."""
    model = {"model": trained["model"]} if any(output["name"] == "model" for output in trained.outputs) else {}
    drawn = graph.place(
        *(drawing(graph.known), place, (276, 394)),
        **{**models(loader), **model},
        **{key: trained[key] for key in ("concept", "resolution")},
    )
    below = (place[0], place[1] + 440)
    return [drawn, graph.node("SaveImage", below, (276, 330), images=drawn["images"], filename_prefix=name)]


def dreambooth_lora(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train a DreamBooth LoRA", known)
    note = (
        "Teaches a rare word: *sks dog* (Ruiz et al. 2023). Dogs of the model itself, drawn first, keep other dogs as "
        "they are. The paper takes 200: raise **batch_size** of *Draw other dogs*."
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
    others, tune, draw, show = 304, 614, 1008, 1304
    graph.note(*NOTE, note)
    loader, pictures = checkpoint(graph, (0, 0), 270), photos(graph)
    rare = graph.node("CoReConceptFromWords", (others, 650), (270, 180), "A rare word", clip=loader["CLIP"], words=word)
    draw_it = drawing(graph.known)
    dogs = graph.node(
        *("CoReConceptFromWords", (others, 0), (270, 126), "Other dogs"),
        clip=loader["CLIP"],
        **{"words": "dog", "with_category": False},
    )
    class_images = graph.place(
        *(draw_it, (others, 210), (270, 394), "Draw other dogs"),
        **models(loader),
        concept=dogs["concept"],
        **{"template": "a photo of a {}", "batch_size": 8, "seed": 11},
    )
    stage = graph.node(
        *("CoReUNetIdentityFinetune", (tune, 0), (330, TRAINING_HEIGHT), "Its looks"),
        **models(loader),
        **pictures_of(pictures),
        concept=rare["concept"],
        class_images=class_images["images"],
        **looks,
    )
    drawings = _compared(graph, draw_it, (draw, show), loader, stage)
    graph.group("1 · Model and photos", loader, pictures)
    graph.group("2 · A rare word, and other dogs", dogs, class_images, rare)
    graph.group("3 · Learn its looks", stage)
    graph.group("4 · Use it in any prompt", *drawings)
    return graph


CAPTIONS = (
    "a photo of a {} standing in the garden, in front of a white fence",
    "a photo of a {} lying on a grey sofa, beside a red cushion",
    "a photo of a {} sitting on the beach, wearing a blue collar",
    "a photo of a {} running in the park, with a ball in its mouth",
)


def captions(known: Mapping[str, Any]) -> Graph:
    graph = Graph("Train with captions - say everything but the dog", known)
    say, learn, draw = 304, 648, 1026
    graph.note(
        *((draw, 830), (276, 115)),
        "Four photos on one sofa teach the sofa. A caption tells everything *but* your dog (SID, Kim et al. 2024): one "
        "line per photo, in their order. Or connect a vision-language model.",
    )
    loader = checkpoint(graph, (0, 0), 270)
    pictures, masks = photos_with_auto_masks(graph)
    told = graph.node(
        *("CoReSelectiveCaption", (say, 0), (310, 800)),
        images=pictures["images"],
        captions=pictures["captions"],
        clip=loader["CLIP"],
        own_captions="\n".join(CAPTIONS),
    )
    train = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (340, TRAINING_HEIGHT)),
        **models(loader),
        **{**pictures_of(pictures, masks), "captions": told["captions"]},
        **{"concept_name": f"{NAME}-sid", **CORE},
    )
    drawn = _drawn(graph, (draw, 0), loader, train, f"{NAME}-sid")
    graph.group("1 · Model and photos", loader, pictures, masks)
    graph.group("2 · Say everything but the dog", told)
    graph.group("3 · Learn it", train)
    graph.group("4 · Use it in any prompt", *drawn)
    return graph


STYLE = "my-style"
SHOWN = (
    "a {} of a lighthouse on a cliff, with gulls above the sea",
    "a {} of an old man reading a newspaper in a cafe",
    "a {} of a bowl of pears on a wooden table",
    "a {} of a street in the rain, with people under umbrellas",
)
DRAWN_IN_STYLE = (
    "a {} of a castle on a hill",
    "a {} of a cat asleep on a chair",
    "a {} of a woman with a lantern",
    "a {} of a harbour at night",
)


def style(known: Mapping[str, Any]) -> Graph:
    """A kind of picture as the concept: what its pictures show is said, and so left out of the word."""
    graph = Graph("Train my style - from paintings", known)
    say, learn, use, score = 304, 628, 976, 1268
    graph.note(
        *((use, 650), (258, 150)),
        "Say all that each picture shows, one line per picture: the style is what is left.\n\n"
        "For the style score click it, press Ctrl+B, and switch **Allow downloads** on.",
    )
    loader = checkpoint(graph, (0, 0), 270)
    pictures = photos(graph, title="Pictures of one style", folder=STYLE)
    told = graph.node(
        *("CoReSelectiveCaption", (say, 0), (290, 800), "What each picture shows"),
        images=pictures["images"],
        captions=pictures["captions"],
        clip=loader["CLIP"],
        **{"super_category": "painting", "form": "style", "start": "a {}", "own_captions": "\n".join(SHOWN)},
    )
    train = graph.node(
        *("CoReTrainEmbedding", (learn, 0), (314, TRAINING_HEIGHT), "A word for the style"),
        **models(loader),
        **{**pictures_of(pictures), "captions": told["captions"]},
        **{"concept_name": STYLE, "super_category": "painting", "prompt_set": "style", "caption_template": "a {}"},
        **{**CORE, "preview_prompts": "\n".join(DRAWN_IN_STYLE)},
    )
    prompt = graph.node("PrimitiveStringMultiline", (use, 0), (258, 90), "Your prompt", value=DRAWN_IN_STYLE[0])
    drawn = graph.place(
        *(drawing(known), (use, 170), (258, 410)),
        **models(loader),
        **{key: train[key] for key in ("concept", "resolution")},
        template=prompt["STRING"],
    )
    saved = graph.node("SaveImage", (score, 0), (290, 210), images=drawn["images"], filename_prefix=STYLE)
    scored = graph.node(
        *("CoReScorecard", (score, 300), (290, 500), "Style score (Ctrl+B)"),
        **{"references": pictures["images"], "generated": drawn["images"], "prompts": prompt["STRING"]},
        **{"concept": train["concept"], "dino_model": "", "overwrite": True},
        style_model="openai/clip-vit-large-patch14",
    )
    scored.bypassed = True
    graph.group("1 · Model and pictures", loader, pictures)
    graph.group("2 · Say what they show", told)
    graph.group("3 · Learn it", train)
    graph.group("4 · Use it in any prompt", prompt, drawn)
    graph.group("5 · How near is it?", saved, scored)
    return graph
