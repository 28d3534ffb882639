"""The value that flows between our nodes: one learned concept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comfy_api.latest import io
from torch import Tensor

from ..core_ops.prompt_templates import template_with_category


@dataclass(frozen=True)
class Concept:
    """A concept whose embedding lies in the embeddings folder.

    name: of the file, without suffix. vectors: per text encoder, [V, width] in fp32 on the CPU.
    with_category: prompts read "[V] super-category" (AttnDreamBooth) and not "[V]" alone.
    """

    name: str
    super_category: str
    vectors: Mapping[str, Tensor]
    path: Path
    with_category: bool = False

    @property
    def token(self) -> str:
        """What calls the embedding in any CLIP Text Encode."""
        return f"embedding:{self.name}"

    @property
    def phrase(self) -> str:
        """What stands for the concept in a prompt."""
        return f"{self.token} {self.super_category}" if self.with_category else self.token

    def caption(self, template: str) -> str:
        """A caption template as the concept's method writes it; {} stays."""
        return template_with_category(template, self.super_category) if self.with_category else template


ConceptIO = io.Custom("CORE_CONCEPT")
