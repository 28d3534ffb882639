"""Whether a concept belongs to a text encoder."""

from __future__ import annotations

from typing import Any

from ...core_ops.quoting import quoted
from ..concept import Concept
from ..host.models.text_encoder import encoder_widths


def validate_vectors(parameter: str, concept: Concept, clip: Any) -> None:
    """Raises ValueError, beginning with `parameter`, when the embedding was made for another kind of model."""
    own = {name: vectors.shape[-1] for name, vectors in concept.vectors.items()}
    needed = encoder_widths(clip)
    if own != needed:
        has, takes = (
            " and ".join(f"{name} of width {width}" for name, width in widths.items()) for widths in (own, needed)
        )
        raise ValueError(
            f"{parameter}: {quoted(concept.name)} is an embedding for {has}, this model needs {takes}; "
            "load the base model that it was learned on, or train the concept on this one."
        )
