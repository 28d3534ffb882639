"""Node "Save Concept": one file to share, with embedding, LoRA and card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...core_ops.quoting import quoted
from ..concept import Concept, ConceptIO, LoraModel
from ..files import concept_bundles, concept_files, safe_files
from ..files.unet_files import new_file_path, validate_new_file
from ..host.models.host_models import same_model
from ..labels import LABELS
from .concept_card import ConceptCard
from .thumbnail import KEY, encode_thumbnail

LONGEST_DESCRIPTION = 10_000


class SaveConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReSaveConcept",
            display_name="Save Concept",
            category="CoRe Personalization",
            description="Puts a concept into one file to share: embedding, LoRA, and what it is and was learned on.",
            search_aliases=["share concept", "bundle embedding", "export lora", "pivotal tuning"],
            is_output_node=True,
            inputs=[
                ConceptIO.Input("concept", tooltip="The concept, from CoRe Train Embedding or Load Concept."),
                io.String.Input(
                    "name",
                    display_name=LABELS["name"],
                    default="",
                    tooltip="Name of the file in output/loras: letters, digits, '-', '_', '.'. Empty: the concept's.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    display_name=LABELS["overwrite"],
                    default=False,
                    tooltip="Replace a file of the same name.",
                ),
                io.String.Input(
                    "description",
                    display_name=LABELS["description"],
                    default="",
                    multiline=True,
                    tooltip="What others should know: what it is, which prompts work. Up to 10000 characters.",
                ),
                io.Custom("LORA_MODEL").Input(
                    "lora",
                    optional=True,
                    tooltip="What the U-Net learned, from U-Net Identity Finetune or ComfyUI's Train LoRA. Optional.",
                ),
                io.Image.Input(
                    "preview",
                    optional=True,
                    tooltip="A picture of it; the first of the batch is kept, at most 512 pixels a side. Optional.",
                ),
            ],
            outputs=[io.String.Output("file", display_name="file", tooltip="Where it was written.")],
        )

    @classmethod
    def validate_inputs(
        cls, name: str | None = None, overwrite: bool | None = None, description: str | None = None
    ) -> bool:
        """Raises ValueError for what the widgets alone show; None: it comes by a link."""
        if name := (name or "").strip():
            ours = safe_files.written_here(new_file_path("loras", name))
            validate_new_file("loras", name, overwrite is not False or ours)
        _validate_description(description or "")
        return True

    @classmethod
    def execute(
        cls,
        concept: Concept,
        name: str,
        overwrite: bool,
        description: str,
        lora: Mapping[str, Tensor] | None = None,
        preview: Tensor | None = None,
    ) -> io.NodeOutput:
        name = name.strip() or concept.name
        validate_new_file("loras", name, overwrite)
        _validate_description(description)
        weights = dict(lora or {})
        for key, weight in weights.items():
            if not isinstance(weight, torch.Tensor) or key.startswith("bundle_emb."):
                raise ValueError(f"lora: {key[:120]!r} is no LoRA weight; connect a LORA_MODEL output.")
            if not bool(weight.isfinite().all()):
                raise ValueError(
                    f"lora: {key[:120]!r} holds NaN or infinity; train it again with a lower learning rate."
                )
        card = dataclasses.replace(_card_of(concept, lora), description=description.strip())
        extra = {"modelspec.description": card.description}
        if preview is not None:
            extra[KEY] = encode_thumbnail(preview)
        path = concept_bundles.save_concept(
            name,
            concept_name=concept.name,
            embedding=concept.vectors,
            lora=weights,
            space_time=concept.space_time.tensors() if concept.space_time else {},
            about=(card.entries(concept.phrase), extra),
            overwrite=overwrite,
        )
        return io.NodeOutput(
            str(path), ui=ui.PreviewText(f"{path.name}: {len(weights)} LoRA weights, {concept.phrase}")
        )


def _validate_description(text: str) -> None:
    if len(text) > LONGEST_DESCRIPTION:
        raise ValueError(f"description: it has {len(text)} characters; shorten it to {LONGEST_DESCRIPTION} at most.")


def _card_of(concept: Concept, lora: Mapping[str, Tensor] | None) -> ConceptCard:
    """The card of the concept's embedding file, with that of the LoRA; raises ValueError when they do not belong."""
    if concept.words:
        raise ValueError(
            f"concept: {quoted(concept.words)} are words of the model, there is no embedding to save; share the LoRA "
            f"file by itself, and say that {quoted(concept.phrase)} calls it."
        )
    if not concept.path.is_file():
        raise ValueError(f"concept: its embedding file {quoted(str(concept.path))} is gone; train or load it again.")
    if not concept_files.holds(concept.path, concept.vectors, concept.space_time):
        raise ValueError(
            f"concept: {concept.path} holds another embedding by now, so its card is of another training; "
            "train or load the concept again."
        )
    card = ConceptCard.read("concept", safe_files.read_metadata(concept.path))
    training = dict(lora.card) if isinstance(lora, LoraModel) else {}
    if not card.base_model_fingerprint:  # of another program: what is known is what the LoRA was trained on
        known = ("architecture", "base_model", "base_model_fingerprint")
        card = dataclasses.replace(card, **{name: training[name] for name in known if name in training})
    fingerprint = training.get("base_model_fingerprint", card.base_model_fingerprint)
    if not same_model(fingerprint, card.base_model_fingerprint):
        raise ValueError(
            f"lora: it was trained on {training.get('base_model')!r}, the concept's embedding on {card.base_model!r}; "
            "use the same base model for both."
        )
    return dataclasses.replace(
        card, super_category=concept.super_category, with_category=concept.with_category, lora=training
    )
