"""Node "Apply Concept": a prompt with the concept in it, for methods that learn it layer by layer, and all others."""

from __future__ import annotations

import re
from typing import Any

from comfy_api.latest import io

from ...core_ops.prompts.prompt_templates import fill, validate_template
from ..concept import Concept, ConceptIO
from ..host.attention.layered_sampling import LayeredSampling
from ..host.models.module_copy import validate_copyable
from ..host.prompts.prompt_rows import PromptRows, naming
from ..labels import LABELS


class ApplyConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReApplyConcept",
            display_name="Apply Concept",
            category="CoRe Personalization",
            description="Draws a concept that differs by layer (XTI, NeTI): model and prompt for any sampler.",
            search_aliases=["xti", "neti", "p+", "concept conditioning", "layer embedding"],
            inputs=[
                io.Model.Input("model", tooltip="The base model of the concept. It stays as it is."),
                io.Clip.Input("clip", tooltip="The model's text encoder. It stays as it is."),
                ConceptIO.Input("concept", tooltip="The concept, from CoRe Train Embedding or Load Concept."),
                io.String.Input(
                    "template",
                    display_name=LABELS["template"],
                    default="a photo of a {} in the jungle",
                    multiline=True,
                    tooltip="The prompt, with {} exactly once where the concept goes, or with its embedding:NAME.",
                ),
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="model", tooltip="For the sampler, with this conditioning."),
                io.Conditioning.Output("CONDITIONING", display_name="conditioning", tooltip="The prompt, encoded."),
            ],
        )

    @classmethod
    def validate_inputs(cls, template: str | None = None) -> bool:
        """Before a concept is trained for it. None: it comes by a link."""
        if template is not None and "embedding:" not in template:
            validate_template("template", template)
        return True

    @classmethod
    def execute(cls, model: Any, clip: Any, concept: Concept, template: str) -> io.NodeOutput:
        if "{" not in template:  # as other nodes give it
            whole_name = rf"{re.escape(concept.phrase)}(?![\w/\\-]|\.\w)"
            filled, places = re.subn(whole_name, "{}", template)
            template = filled if places == 1 else template
        validate_template("template", template)
        concept.validate_for(clip)
        if concept.space_time is None:
            tokens = clip.tokenize(fill(template, [concept.phrase]))
            return io.NodeOutput(model, clip.encode_from_tokens_scheduled(tokens))
        validate_copyable("clip", clip.patcher)
        with naming("template"):
            row = PromptRows(clip, concept.super_category, concept.length).concept(concept.caption(template))
        sampling = LayeredSampling(clip, concept.space_time, row)
        return io.NodeOutput(sampling.attach(model), sampling.conditioning)
