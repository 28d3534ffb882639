"""Node "Concept Prompt": a prompt for any CLIP Text Encode, with the concept where {} stands."""

from __future__ import annotations

from comfy_api.latest import io

from ...core_ops.prompts.prompt_templates import PLACES, fill, validate_template
from ..concept import Concept, ConceptIO
from ..labels import LABELS
from ..prompt_concepts import SOCKETS, placed_concepts


class ConceptPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReConceptPrompt",
            display_name="Concept Prompt",
            category="CoRe Personalization",
            description="Puts a learned concept into a prompt. Connect the result to CLIP Text Encode.",
            search_aliases=["embedding prompt", "textual inversion", "trigger word"],
            inputs=[
                ConceptIO.Input("concept", tooltip="The concept, from CoRe Train Embedding or Load Concept."),
                io.String.Input(
                    "template",
                    display_name=LABELS["template"],
                    default="a photo of a {} in the jungle",
                    multiline=True,
                    tooltip="The prompt, with {} exactly once where the concept goes; {2} and {3} for concept_2 and "
                    "concept_3.",
                ),
                *(
                    ConceptIO.Input(
                        name, optional=True, tooltip=f"Another concept, which goes where {place} stands. Optional."
                    )
                    for name, place in zip(SOCKETS[1:], PLACES[1:], strict=True)
                ),
            ],
            outputs=[io.String.Output("prompt", display_name="prompt", tooltip="For CLIP Text Encode.")],
        )

    @classmethod
    def validate_inputs(cls, template: str | None = None) -> bool:
        """Before a concept is trained for it. None: it comes by a link."""
        if template is not None:
            validate_template("template", template)
        return True

    @classmethod
    def execute(
        cls, concept: Concept, template: str, concept_2: Concept | None = None, concept_3: Concept | None = None
    ) -> io.NodeOutput:
        concepts = placed_concepts("template", template, [concept, concept_2, concept_3])
        return io.NodeOutput(fill(template, [each.phrase for each in concepts]))
