"""How papers evaluate: how many prompts and pictures, drawn with what, as far as they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OWN_NUMBERS = "own numbers"


@dataclass(frozen=True)
class Protocol:
    """pictures: of each prompt. drawn_with: what the paper says of it. sampling: inputs of "Evaluation Prompts"."""

    prompts: int
    pictures: int
    drawn_with: str
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def published(self) -> dict[str, Any]:
        """Values of inputs that choosing it fills in."""
        return {"seeds_per_prompt": self.pictures, **self.sampling}


PROTOCOLS: Mapping[str, Protocol] = {
    "CoRe": Protocol(20, 32, "Stable Diffusion 2.1; it names neither sampler nor guidance"),
    "AttnDreamBooth": Protocol(24, 32, "a model, sampler and guidance that its presentation does not name"),
    "SID": Protocol(
        *(25, 20, "Stable Diffusion 2.1 base, sampler ddim, 50 steps, guidance 7.5"), {"steps": 50, "guidance": 7.5}
    ),
}
"""Wu et al. 2024, "Quantitative Evaluation" and Appendix G; Pang et al. 2024, slides of its evaluation; Kim et al.
2024, C.2 and C.3."""
