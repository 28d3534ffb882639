"""Settings of "Evaluation Prompts"."""

from __future__ import annotations

from dataclasses import dataclass

from ...core_ops.prompts.prompt_templates import parse_templates, prompt_set
from ..settings import choice, integer, text

OWN_PROMPTS = "own"


@dataclass(frozen=True)
class PromptBatchSettings:
    """Inputs of "Evaluation Prompts", in the order in which they are shown."""

    prompt_set: str = choice(
        ("animate", "inanimate", "person", OWN_PROMPTS),
        help=(
            "The 20 evaluation prompts of CoRe's Table 4 for living things and dolls, or for objects; 20 of this "
            "project's for people; or your own."
        ),
        shows={OWN_PROMPTS: ["own_prompts"]},
    )
    seeds_per_prompt: int = integer(
        4, low=1, high=1024, help="Pictures of each prompt, each with a seed of its own. Paper: 32."
    )
    seed: int = integer(
        0,
        low=0,
        high=2**53,
        help="The first of the seeds; the others follow it. Every prompt has the same ones.",
        control_after_generate=False,
    )
    concept_text: str = text(
        "",
        help="What stands for the concept in a prompt when none is connected: embedding:my-cat, or sks dog for a LoRA.",
        advanced=True,
    )
    super_category: str = text(
        "", help="What stands in plain_prompts. Empty: the connected concept's, or nothing without one.", advanced=True
    )
    own_prompts: str = text(
        "a photo of a {}",
        help="Used when prompt_set is 'own': one prompt per line, each with {} once where the concept goes.",
        multiline=True,
    )

    def templates(self) -> tuple[str, ...]:
        """Raises ValueError when one's own prompts are none."""
        if self.prompt_set == OWN_PROMPTS:
            return parse_templates(self.own_prompts)
        return prompt_set(f"evaluation_{self.prompt_set}")
