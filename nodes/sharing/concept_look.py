"""What the editor shows of a concept's file before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..concept import Concept
from ..files import concept_bundles
from ..tables import without_markup
from .concept_card import SHOWN, ConceptCard
from .thumbnail import encode_thumbnail, preview_of

PATH = "/core_personalization/concept"


def look(query: Mapping[str, str]) -> dict[str, Any]:
    """text: trigger, base model and description, a line each. picture: a data URI; None where there is none.

    query: file, as the node's list has it. Raises ValueError for a file that the node would refuse.
    """
    path = concept_bundles.concept_file_path(query.get("file", ""))
    stored = concept_bundles.read_concept(path, query.get("embedding_name", "").strip())
    card = ConceptCard.read("file", stored.metadata)
    name, kind = query.get("embedding_name", "").strip() or stored.embedding_name, card.super_category
    concept = Concept(name, kind, vectors={}, path=path, with_category=card.with_category)
    lines = {
        "Trigger": concept.phrase,
        "What it is": kind or "the file does not say; write it below",
        "Made for": card.base_model or "the file does not say",
        "With": "a LoRA" if stored.lora else "the word alone",
        "": card.description,
    }
    told = [f"{title}: {text}" if title else text for title, text in lines.items() if text]
    preview = preview_of(path, stored.metadata)
    picture = None if bool((preview == 1).all()) else encode_thumbnail(preview)
    return {"text": "\n".join(without_markup(line[:SHOWN]) for line in told), "picture": picture}
