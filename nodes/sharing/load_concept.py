"""Node "Load Concept": a shared concept onto a MODEL and a CLIP."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from ...core_ops.pictures import LATENT_CELL
from ...core_ops.space_time.reading import read_space_time
from ..concept import Concept, ConceptIO
from ..files import concept_bundles, concept_files, safe_files
from ..host.models.denoiser import own_side
from ..host.models.host_models import architecture, base_model_fingerprint, base_model_name, same_model
from ..host.models.text_encoder import encoder_widths
from ..host.models.timestep_lora import applied_lora
from ..labels import LABELS
from ..tables import without_markup
from .concept_card import ConceptCard
from .lora_strength import strength_input, validate_strength
from .thumbnail import picture_of

RESOLUTION = "Side in pixels that it was trained at: for Empty Latent Image's width and height."
LARGEST_SIDE = 4096


@dataclasses.dataclass
class _Placed:
    """Where a file's embedding was put or found, the mark of that file, and how often it had changed since."""

    path: Path
    mark: tuple[int, ...] | None
    changes: int = 0


_PLACED: dict[tuple[str, str], _Placed] = {}
"""By file and embedding_name."""


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
                io.Model.Output(
                    "MODEL", display_name="model", tooltip="The model with the LoRA, where the file has one."
                ),
                io.Clip.Output("CLIP", display_name="clip", tooltip="For CLIP Text Encode."),
                ConceptIO.Output(
                    "concept", display_name="concept", tooltip="For Concept Prompt and the other CoRe nodes."
                ),
                io.String.Output("prompt", display_name="prompt", tooltip="Write this in any prompt."),
                io.String.Output("card", display_name="card", tooltip="What the file says about itself."),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="The concept's picture; white where the file has none."
                ),
                io.Int.Output("resolution", display_name="resolution", tooltip=RESOLUTION),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, embedding_name: str | None = None, **_: Any) -> tuple[float, int]:
        """Changes with the file, so that the host does not reuse what an older one gave; and once each time that the
        embedding which it placed has gone, or another has taken its place."""
        placed = _PLACED.get((file, (embedding_name or "").strip()))
        if placed and (mark := safe_files.mark_of(placed.path)) != placed.mark:
            placed.mark, placed.changes = mark, placed.changes + 1
        return concept_bundles.concept_file_path(file).stat().st_mtime, placed.changes if placed else 0

    @classmethod
    def validate_inputs(
        cls, file: str | None = None, embedding_name: str | None = None, super_category: str | None = None
    ) -> bool:
        """Raises ValueError for what the widgets alone show; None: it comes by a link."""
        name = (embedding_name or "").strip()
        if file is not None and embedding_name is not None and super_category is not None:
            outline = concept_bundles.outline_of(concept_bundles.concept_file_path(file), name)
            ConceptCard.read("file", outline.metadata).with_kind(super_category)
            name = concept_bundles.name_in_prompts(name, outline.embedding_name)
        if name:
            safe_files.validate_name("embedding_name", name)
        return True

    @classmethod
    def execute(
        cls, model: Any, clip: Any, file: str, strength: float, super_category: str, embedding_name: str
    ) -> io.NodeOutput:
        validate_strength(strength)
        path, name = concept_bundles.concept_file_path(file), embedding_name.strip()
        stored = concept_bundles.read_concept(path, name)
        card = ConceptCard.read("file", stored.metadata).with_kind(super_category)
        notes = _on_base(card, model, clip)
        known = 0 < card.resolution <= LARGEST_SIDE and card.resolution % LATENT_CELL == 0
        card = dataclasses.replace(card, resolution=card.resolution if known else own_side(model))
        vectors = concept_bundles.vectors_for(stored, encoder_widths(clip))
        picture = picture_of(path, stored.metadata)
        preview = torch.ones(1, 64, 64, 3) if picture is None else picture
        if stored.lora:
            model, clip = applied_lora(model, clip, lora=stored.lora, strength=strength, card=card.lora)
        name = concept_bundles.name_in_prompts(name, stored.embedding_name)
        concept = Concept(
            name=name,
            super_category=card.super_category,
            vectors=vectors,
            path=concept_files.embedding_path(name),
            with_category=card.with_category,
            space_time=read_space_time(stored.space_time, vectors),
        )
        # Where the host's tokenizer finds it: perhaps a file of another folder that holds the same already.
        placed = concept_files.place_embedding(name, vectors, card.entries(concept.phrase), concept.space_time)
        before = _PLACED.setdefault((file, embedding_name.strip()), _Placed(placed, None))
        before.path, before.mark = placed, safe_files.mark_of(placed)
        concept = dataclasses.replace(concept, path=placed)
        told = card.shown(concept.phrase)
        text = "\n".join((f"Write {concept.phrase} in any prompt.", *concept.notes, *notes))
        shown = {**ui.PreviewImage(preview, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
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
            tooltip="A file of Save Concept among the LoRAs, an embedding, or either of another program (safetensors).",
        ),
        strength_input(tooltip="How strongly the LoRA changes the model: 1 as trained, 0 not at all."),
        io.String.Input(
            "super_category",
            display_name=LABELS["super_category"],
            default="",
            tooltip=(
                "What kind of thing it is, for files of other programs, which do not say it. Empty: what the file says."
            ),
        ),
        io.String.Input(
            "embedding_name",
            display_name=LABELS["embedding_name"],
            default="",
            advanced=True,
            tooltip=(
                "The name that calls it in prompts: embedding:NAME. Empty: the name it was saved with. Of a file with "
                "several embeddings: the one that is loaded."
            ),
        ),
    ]


def _on_base(card: ConceptCard, model: Any, clip: Any) -> tuple[str, ...]:
    """A note, where the model is not the one that the concept was made for; raises ValueError for another family."""
    if not card.architecture:
        return ("Note: the file does not say which model it was made for; with another one it may not look right.",)
    if card.architecture != architecture(model, clip):
        raise ValueError(
            f"model: {base_model_name(model)!r} ({architecture(model, clip)}) is connected, but this concept was made "
            f"for {card.base_model[:200]!r} ({card.architecture[:100]!r}), another family; load that base model or a "
            "fine-tune of it."
        )
    if same_model(card.base_model_fingerprint, base_model_fingerprint(model)):
        return ()
    made_for, connected = without_markup(card.base_model[:200]), base_model_name(model)
    return (f"Note: it was made for {made_for}, and {connected} is connected: it may look less like itself.",)
