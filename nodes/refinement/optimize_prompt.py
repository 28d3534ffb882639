"""Node "CoRe Test-Time Optimize": refines a concept's embedding for one prompt, in a few steps and without pictures."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...core_ops.scores.token_similarity import context_labels
from ..concept import Concept, ConceptIO
from ..host.models.host_models import HostModels
from ..host.prompts.prompt_reading import read_prompt
from ..host.run_control import blocked_output, node_id_of, releasing_memory
from ..settings import RefusingNode, schema_inputs, showing, validated
from .refinement_inputs import StartingPoint, check_inputs, check_settings
from .refinement_report import report
from .refinement_settings import RefinementSettings
from .refining import encode_prompt, refine_prompt, save_refined


class OptimizePrompt(RefusingNode):
    SETTINGS = RefinementSettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReTestTimeOptimize",
            display_name="CoRe Test-Time Optimize",
            category="CoRe Personalization",
            description="Refines a learned concept for one prompt, so that the words around it count as they should.",
            search_aliases=[
                "test-time optimization",
                "word ignored",
                "prompt ignored",
                "refine embedding",
                "personalization",
            ],
            inputs=[*_sockets(), *schema_inputs(RefinementSettings)],
            outputs=[
                io.Conditioning.Output(
                    "conditioning", display_name="conditioning", tooltip="The refined prompt, for any sampler."
                ),
                io.String.Output("report", display_name="report", tooltip="What changed, as a Markdown table."),
                ConceptIO.Output(
                    "refined", display_name="refined", tooltip="The refined concept under its name in save_as."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def refuse(cls, settings: RefinementSettings) -> None:
        check_settings(settings)

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        concept: Concept,
        concept_2: Concept | None = None,
        concept_3: Concept | None = None,
        latent: Any = None,
        images: Any = None,
        vae: Any = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        settings = validated(RefinementSettings, inputs)
        host = HostModels(model, clip, vae)
        checked = check_inputs(host, (concept, concept_2, concept_3), StartingPoint(latent, images), settings)
        node_id = node_id_of(cls)
        with releasing_memory("batch_size, or width and height, or switch gradient_checkpointing on"):
            refined = refine_prompt(host, checked, node_id)
        labels = context_labels(read_prompt(clip, checked.reference_prompt), checked.pair.reference)
        conditioning = encode_prompt(host, checked, refined.vectors)
        # Under its old name it would be taken for the file of that name, which is as it was.
        told = "CoRe Test-Time Optimize: give save_as a name to use the refined concept elsewhere."
        concept = save_refined(host, checked, refined) if settings.save_as else blocked_output(told)
        return io.NodeOutput(conditioning, report(checked, refined, labels), concept)


def _sockets() -> list[io.Input]:
    """Models, concepts, and what is noised."""
    return [
        io.Model.Input("model", tooltip="The model that will draw, with its LoRAs or fine-tuning. It stays as it is."),
        io.Clip.Input("clip", tooltip="Its text encoder, as given to CLIP Text Encode. It stays as it is."),
        ConceptIO.Input("concept", tooltip="The concept for {}, from CoRe Train Embedding or Load Concept."),
        *(
            ConceptIO.Input(
                f"concept_{number}",
                optional=True,
                tooltip=f"A further concept, for {{{number}}}. Optional.",
                extra_dict=showing({"connected": [f"optimize_{number}"]}),
            )
            for number in (2, 3)
        ),
        io.Latent.Input(
            "latent",
            optional=True,
            tooltip="What will be sampled: gives the size, in place of width and height, and what is noised. Optional.",
            extra_dict=showing({"": ["width", "height"]}),
        ),
        io.Image.Input(
            "images",
            optional=True,
            tooltip="Pictures to noise in place of a latent; they need vae. Optional.",
            extra_dict=showing({"": ["width", "height"]}),
        ),
        io.Vae.Input("vae", optional=True, tooltip="The model's VAE. Needed when images are connected."),
    ]
