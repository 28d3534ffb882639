"""Node "Evaluation Prompts": a concept times prompts times seeds, as lists that core's nodes work through."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...core_ops.prompts.prompt_templates import fill
from ...core_ops.scores import with_category
from ..concept import Concept, ConceptIO
from ..settings import RefusingNode, schema_inputs, showing, validated
from .prompt_batch_settings import PromptBatchSettings


class EvaluationPrompts(RefusingNode):
    SETTINGS = PromptBatchSettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReEvaluationPrompts",
            display_name="Evaluation Prompts",
            category="CoRe Personalization",
            description="The prompts that CoRe's paper scores a concept with, each with several seeds. Connect prompts "
            "to CLIP Text Encode and seeds to the sampler: they draw one picture for each.",
            search_aliases=["prompt list", "batch prompts", "benchmark prompts", "evaluation"],
            inputs=[
                ConceptIO.Input(
                    "concept",
                    optional=True,
                    tooltip="The concept that the pictures shall show.",
                    extra_dict=showing({"": ["concept_text"]}),
                ),
                *schema_inputs(PromptBatchSettings),
            ],
            outputs=[
                io.String.Output(
                    "prompts",
                    display_name="prompts",
                    is_output_list=True,
                    tooltip="With the concept: for CLIP Text Encode, and for the scorecard.",
                ),
                io.String.Output(
                    "plain_prompts",
                    display_name="plain_prompts",
                    is_output_list=True,
                    tooltip="The prompts with the super-category in place of the concept, to compare.",
                ),
                io.Int.Output(
                    "seeds", display_name="seeds", is_output_list=True, tooltip="One per prompt: for the sampler."
                ),
                io.Int.Output("steps", display_name="steps", tooltip="For the sampler."),
                io.Float.Output("guidance", display_name="guidance", tooltip="For the sampler's cfg."),
                io.String.Output(
                    "about", display_name="about", tooltip="How many pictures, and what the paper draws them with."
                ),
            ],
        )

    @classmethod
    def refuse(cls, settings: PromptBatchSettings) -> None:
        settings.templates()

    @classmethod
    def execute(cls, concept: Concept | None = None, **inputs: Any) -> io.NodeOutput:
        settings = validated(PromptBatchSettings, inputs)
        phrase = concept.phrase if concept else settings.concept_text.strip()
        if not phrase:
            raise ValueError("concept: got none; connect one, or write in concept_text what stands for it in a prompt.")
        category = settings.super_category or (concept.super_category if concept else "")
        seeds = range(settings.seed, settings.seed + settings.seeds_per_prompt)
        repeated = [template for template in settings.templates() for _ in seeds]
        return io.NodeOutput(
            [fill(template, [phrase]) for template in repeated],
            [with_category(template, "", category) for template in repeated],
            [*seeds] * (len(repeated) // len(seeds)),
            settings.steps,
            settings.guidance,
            settings.about(),
            ui=ui.PreviewText(settings.about()),
        )
