"""Node "CoRe Test-Time Optimize": mends a concept's embedding for one prompt, in a few steps and without pictures."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from comfy_api.latest import io

from ...core_ops.scores.context_similarity import context_labels
from ..concept import Concept, ConceptIO
from ..files import concept_files
from ..host.models.host_models import HostModels
from ..host.prompts.prompt_reading import read_prompt
from ..host.run_control import blocked_output, node_id_of, releasing_memory
from ..settings import schema_inputs, validated
from .refinement_inputs import CheckedPrompt, StartingPoint, check_inputs
from .refinement_report import report
from .refinement_settings import RefinementSettings
from .refining import RefinedPrompt, encode_prompt, refine_prompt


class OptimizePrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReTestTimeOptimize",
            display_name="CoRe Test-Time Optimize",
            category="CoRe Personalization",
            description="Mends a learned concept for one prompt, so that the words around it count as they should.",
            search_aliases=[
                "test-time optimization",
                "word ignored",
                "prompt ignored",
                "refine embedding",
                "personalization",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that will draw, with its LoRAs or fine-tuning. It stays as it is."
                ),
                io.Clip.Input("clip", tooltip="Its text encoder, as given to CLIP Text Encode. It stays as it is."),
                ConceptIO.Input("concept", tooltip="The concept for {}, from CoRe Train Embedding or Load Concept."),
                ConceptIO.Input("concept_2", optional=True, tooltip="A further concept, for {2}. Optional."),
                ConceptIO.Input("concept_3", optional=True, tooltip="A further concept, for {3}. Optional."),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="What will be sampled: gives the size; what it shows is noised. In place of width, height.",
                ),
                io.Image.Input(
                    "images", optional=True, tooltip="Pictures to noise in place of a latent; they need vae. Optional."
                ),
                io.Vae.Input("vae", optional=True, tooltip="The model's VAE; for images only."),
                *schema_inputs(RefinementSettings),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning", display_name="conditioning", tooltip="The mended prompt, for any sampler."
                ),
                io.String.Output("report", display_name="report", tooltip="What changed, as a Markdown table."),
                ConceptIO.Output(
                    "refined", display_name="refined", tooltip="The refined concept under its name in save_as."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

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
        return io.NodeOutput(conditioning, report(checked, refined, labels), _saved(host, checked, refined))


def _saved(host: HostModels, checked: CheckedPrompt, refined: RefinedPrompt) -> Any:
    """The first concept as refined, written as an embedding under the name in save_as."""
    settings, original = checked.settings, checked.concepts.concepts[0]
    if not settings.save_as:
        # Under its old name it would be taken for the file of that name, which is as it was.
        return blocked_output("CoRe Test-Time Optimize: give save_as a name to use the refined concept elsewhere.")
    place = checked.concepts.place(0)
    vectors = {encoder: value[place] for encoder, value in refined.vectors.items()}
    path = concept_files.embedding_path(settings.save_as)
    concept = replace(original, name=settings.save_as, vectors=vectors, path=path)
    training = {
        "resolution": min(checked.size),
        "phrase": concept.phrase,
        "super_category": concept.super_category,
        "with_category": concept.with_category,
        "steps_done": settings.steps,
        "settings": asdict(settings),
        "final_terms": dict(refined.after.terms),
        "refined_from": original.name,
    }
    concept_files.save_embedding(concept.name, vectors, host.card(training), settings.overwrite)
    return concept
