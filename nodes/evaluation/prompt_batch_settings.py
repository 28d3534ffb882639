"""Settings of "Evaluation Prompts"."""

from __future__ import annotations

from dataclasses import dataclass

from ...core_ops.prompts.prompt_templates import parse_templates, prompt_set
from ..settings import choice, integer, number, text
from .protocols import OWN_NUMBERS, PROTOCOLS

OWN_PROMPTS = "own"


@dataclass(frozen=True)
class PromptBatchSettings:
    """Inputs of "Evaluation Prompts", in the order in which they are shown."""

    prompt_set: str = choice(
        ("animate", "inanimate", "person", "complex animate", "complex inanimate", "style", OWN_PROMPTS),
        help=(
            "animate, inanimate: the 20 evaluation prompts of CoRe's Table 4 for living things and dolls, or for "
            "objects. complex: 20 with dressing, postures, places and several changes at once, as in CoRe's figures. "
            "20 of this project's for people, 20 for what to show in a style. Or your own."
        ),
        shows={OWN_PROMPTS: ["own_prompts"]},
        label="Set of prompts",
    )
    protocol: str = choice(
        (OWN_NUMBERS, *PROTOCOLS),
        help="A paper's evaluation: choosing one fills in its pictures per prompt and, where it says them, steps and "
        "guidance. The output about says what else it takes.",
        fills={OWN_NUMBERS: {}, **{name: protocol.published for name, protocol in PROTOCOLS.items()}},
    )
    seeds_per_prompt: int = integer(
        4, low=1, high=1024, help="Pictures of each prompt, each with a seed of its own. CoRe: 32."
    )
    steps: int = integer(
        25, low=1, high=10_000, help="Sampling steps, which the output steps gives to the sampler. SID: 50."
    )
    guidance: float = number(
        7.0, low=0.0, high=100.0, step=0.1, help="Guidance, which the output gives to the sampler's cfg. SID: 7.5."
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
        return prompt_set(f"evaluation_{self.prompt_set.replace(' ', '_')}")

    def about(self) -> str:
        """What will be drawn, and what the paper takes, one line each."""
        count, each = len(self.templates()), self.seeds_per_prompt
        told = [
            f"{count * each} pictures: {count} prompts, {each} of each, {self.steps} steps, guidance {self.guidance:g}."
        ]
        if paper := PROTOCOLS.get(self.protocol):
            told.append(
                f"{self.protocol} takes {paper.prompts} prompts, {paper.pictures} of each, drawn with "
                f"{paper.drawn_with}."
            )
            if paper.prompts != count:
                told.append(
                    f"Note: these are {count} prompts and not the paper's {paper.prompts}, which this pack has not; "
                    "write those in own_prompts."
                )
        return "\n".join(told)
