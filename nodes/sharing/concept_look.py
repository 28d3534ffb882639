"""What the editor shows of a concept's file before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..concept import Concept
from ..files import concept_bundles
from ..tables import without_markup
from .concept_card import SHOWN, ConceptCard
from .thumbnail import encode_thumbnail, picture_of

PATH = "/core_personalization/concept"


def look(query: Mapping[str, str]) -> dict[str, Any]:
    """text: trigger, base model and description, a line each. picture: a data URI; None where there is none.

    query: file, as the node's list has it. Raises ValueError for a file that the node would refuse.
    """
    path, called = concept_bundles.concept_file_path(query.get("file", "")), query.get("embedding_name", "").strip()
    outline = concept_bundles.outline_of(path, called)
    card = ConceptCard.read("file", outline.metadata)
    kind, name = card.super_category, concept_bundles.name_in_prompts(called, outline.embedding_name)
    concept = Concept(name, kind, vectors={}, path=path, with_category=card.with_category)
    lines = [
        f"Trigger: {concept.phrase}",
        f"What it is: {kind or 'the file does not say; write it below'}",
        f"Made for: {card.base_model or 'the file does not say'}",
        f"With: {'a LoRA' if outline.has_lora else 'the embedding alone'}",
        *([card.description] if card.description else []),
    ]
    picture = picture_of(path, outline.metadata)
    return {
        "text": "\n".join(without_markup(line[:SHOWN]) for line in lines),
        "picture": None if picture is None else encode_thumbnail(picture),
    }
