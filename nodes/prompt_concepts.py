"""Several concepts in one prompt or one training: their vectors lie one after another in one embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core_ops.prompts.prompt_templates import PLACES, validate_template
from ..core_ops.quoting import quoted
from .concept import Concept
from .host.models.module_copy import autograd_tensor
from .host.prompts.prompt_rows import Slots

SOCKETS = ("concept", "concept_2", "concept_3")


def placed_concepts(parameter: str, template: str, given: Sequence[Concept | None]) -> list[Concept]:
    """One concept for each place of a template; given: in the order of `SOCKETS`.

    Raises ValueError, beginning with the name of the template's input or of a socket, where they do not fit.
    """
    for socket, place, concept in zip(SOCKETS, PLACES, given, strict=True):
        if concept is not None:
            validate_template(parameter, template, place)
        elif place in template:
            raise ValueError(f"{socket}: the prompt has {place}, but no concept is connected; connect one.")
    concepts = [concept for concept in given if concept is not None]
    if None in given[: len(concepts)]:
        raise ValueError(f"concept_3: {quoted(concepts[-1].name)} is connected without a concept_2; connect it there.")
    return concepts


@dataclass(frozen=True)
class PromptConcepts:
    """A prompt's concepts in the order of its places, and which of them are refined.

    The refined ones' vectors lie one after another in one embedding.
    """

    concepts: Sequence[Concept]
    refined: Sequence[bool]

    def vectors(self) -> dict[str, Tensor]:
        """The refined concepts' vectors, [V, width] per encoder."""
        chosen = [concept.vectors for concept, refined in zip(self.concepts, self.refined, strict=True) if refined]
        return {name: autograd_tensor(torch.cat([vectors[name] for vectors in chosen])) for name in chosen[0]}

    def place(self, number: int) -> slice:
        """Where one concept's vectors lie among the refined ones."""
        first = sum(c.length for c, refined in zip(self.concepts[:number], self.refined, strict=False) if refined)
        return slice(first, first + self.concepts[number].length)

    def named(self, vectors: Mapping[str, Tensor] | None = None) -> dict[str, dict[str, Any]]:
        """For `TemplateRows`: slots for the refined concepts, or `vectors` in them when given; the others as they are.

        Keys are the names in `fillings`.
        """
        named: dict[str, dict[str, Any]] = {}
        for number, (concept, refined) in enumerate(zip(self.concepts, self.refined, strict=True)):
            place = self.place(number)
            slots = Slots(place.stop - place.start, place.start)
            named[SOCKETS[number]] = {
                encoder: (slots if vectors is None else vectors[encoder][place]) if refined else own
                for encoder, own in concept.vectors.items()
            }
        return named

    @property
    def fillings(self) -> list[str]:
        return [
            concept.phrase_of(f"embedding:{socket}") for concept, socket in zip(self.concepts, SOCKETS, strict=False)
        ]

    @property
    def reference_fillings(self) -> list[str]:
        return [concept.super_category for concept in self.concepts]
