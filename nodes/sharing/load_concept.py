"""Node "Load Concept": a shared concept onto a MODEL and a CLIP."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any

import torch
from comfy_api.latest import io, ui

from ...core_ops.pictures import LATENT_CELL
from ...core_ops.quoting import quoted
from ..concept import Concept, ConceptIO
from ..files import concept_bundles, concept_files, safe_files
from ..host.models.denoiser import own_side
from ..host.models.host_models import architecture, base_model_fingerprint, base_model_name
from ..host.models.lora_loading import apply_lora
from ..host.models.text_encoder import encoder_widths
from ..labels import LABELS
from .concept_card import ConceptCard
from .thumbnail import KEY, decode_thumbnail

logger = logging.getLogger(__name__)

ANY_BASE = (
    "Also take a concept of another fine-tune of the same family (SD 1.x, 2.x or XL). Off: only of this very base "
    "model."
)
RESOLUTION = "Side in pixels that it was trained at: for Empty Latent Image's width and height."
LARGEST_SIDE = 4096


class LoadConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReLoadConcept",
            display_name="Load Concept",
            category="CoRe Personalization",
            description="Loads a shared concept: its LoRA onto the model, its embedding for prompts.",
            search_aliases=["load lora with embedding", "import concept", "bundle embedding"],
            inputs=_inputs(),
            outputs=[
                io.Model.Output("MODEL", display_name="model", tooltip="With the LoRA, where the file has one."),
                io.Clip.Output("CLIP", display_name="clip", tooltip="For CLIP Text Encode."),
                ConceptIO.Output(
                    "concept", display_name="concept", tooltip="For Concept Prompt and the other CoRe nodes."
                ),
                io.String.Output("prompt", display_name="prompt", tooltip="Write this in any prompt."),
                io.String.Output("card", display_name="card", tooltip="What the file says about itself."),
                io.Image.Output("preview", display_name="preview", tooltip="Its picture; white where it has none."),
                io.Int.Output("resolution", display_name="resolution", tooltip=RESOLUTION),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> float:
        """Changes with the file, so that the host does not reuse what an older one gave."""
        return concept_bundles.concept_file_path(file).stat().st_mtime

    @classmethod
    def validate_inputs(cls, file: str | None = None, embedding_name: str = "") -> bool:
        """Raises ValueError for what the widgets alone show."""
        if file is not None:
            concept_bundles.concept_file_path(file)
        if name := embedding_name.strip():
            safe_files.validate_name("embedding_name", name)
        return True

    @classmethod
    def execute(
        cls, model: Any, clip: Any, file: str, strength: float, embedding_name: str, any_base_of_same_family: bool
    ) -> io.NodeOutput:
        if not isinstance(strength, (int, float)) or not math.isfinite(strength):
            raise ValueError(f"strength: {quoted(strength)} is not a number to multiply by; give one, such as 1.")
        stored = concept_bundles.read_concept(concept_bundles.concept_file_path(file))
        card = ConceptCard.read("file", stored.metadata)
        _validate_base(card, model, clip, any_of_family=any_base_of_same_family)
        known = 0 < card.resolution <= LARGEST_SIDE and card.resolution % LATENT_CELL == 0
        card = dataclasses.replace(card, resolution=card.resolution if known else own_side(model))
        vectors = concept_bundles.vectors_for(stored, encoder_widths(clip))
        uri = stored.metadata.get(KEY)
        preview = torch.ones(1, 64, 64, 3) if uri is None else decode_thumbnail("file", uri)
        if stored.lora:
            model, clip = apply_lora(model, clip, lora=stored.lora, strength=strength)
        name = embedding_name.strip() or stored.embedding_name
        concept = Concept(
            name=name,
            super_category=card.super_category,
            vectors=vectors,
            path=concept_files.embedding_path(name),
            with_category=card.with_category,
        )
        # Where the host's tokenizer finds it: perhaps a file of another folder that holds the same already.
        path = concept_files.place_embedding(name, vectors, card.entries(concept.phrase))
        concept = dataclasses.replace(concept, path=path)
        shown = ui.PreviewImage(preview, cls=cls)
        told = card.shown(concept.phrase)
        return io.NodeOutput(model, clip, concept, concept.phrase, told, preview, card.resolution, ui=shown)


def _inputs() -> list[io.Input]:
    """Models, and the file with how it is loaded."""
    return [
        io.Model.Input("model", tooltip="The base model of the concept. It stays as it is."),
        io.Clip.Input("clip", tooltip="The model's text encoder. It stays as it is."),
        io.Combo.Input(
            "file",
            display_name=LABELS["file"],
            options=concept_bundles.concept_file_names(),
            tooltip="A file of Save Concept among the LoRAs, or an embedding of CoRe Train Embedding.",
        ),
        io.Float.Input(
            "strength",
            display_name=LABELS["strength"],
            default=1.0,
            min=-100.0,
            max=100.0,
            step=0.01,
            tooltip="How strongly the LoRA changes the model: 1 as trained, 0 not at all.",
        ),
        io.String.Input(
            "embedding_name",
            display_name=LABELS["embedding_name"],
            default="",
            advanced=True,
            tooltip="The name that calls it in prompts: embedding:NAME. Empty: the name it was saved with.",
        ),
        io.Boolean.Input(
            "any_base_of_same_family",
            display_name=LABELS["any_base_of_same_family"],
            default=False,
            advanced=True,
            tooltip=ANY_BASE,
        ),
    ]


def _validate_base(card: ConceptCard, model: Any, clip: Any, any_of_family: bool) -> None:
    """Raises ValueError unless the model is the concept's base, or may be another of its family and is."""
    connected = f"model: {base_model_name(model)!r} ({architecture(model, clip)}) is connected, but"
    needed = f"this concept was made for {card.base_model[:200]!r} ({card.architecture[:100]!r})"
    if card.architecture != architecture(model, clip):
        raise ValueError(f"{connected} {needed}, another family; load that base model or a fine-tune of it.")
    if card.base_model_fingerprint == base_model_fingerprint(model):
        return
    if not any_of_family:
        raise ValueError(
            f"{connected} {needed}; load that base model, or switch any_base_of_same_family on to try it with this one."
        )
    logger.info("%s %s; the result may differ.", connected, needed)
