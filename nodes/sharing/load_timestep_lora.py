"""Node "Load T-LoRA": a T-LoRA's file onto a MODEL and a CLIP, with the ranks of each noise level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...core_ops.quoting import quoted
from ..files import file_metadata, foreign_files, unet_files
from ..host.models.timestep_lora import RANK_ENTRY, applied_lora
from ..labels import LABELS
from .lora_strength import strength_input, validate_strength


class LoadTimestepLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReLoadTimestepLora",
            display_name="Load T-LoRA",
            category="CoRe Personalization",
            description="Loads a T-LoRA of U-Net Identity Finetune, whose rank goes with the noise.",
            search_aliases=["t-lora", "load lora", "timestep lora"],
            inputs=[
                io.Model.Input("model", tooltip="The base model of the LoRA. It stays as it is."),
                io.Clip.Input("clip", tooltip="The model's text encoder. It stays as it is."),
                io.Combo.Input(
                    "file",
                    display_name=LABELS["file"],
                    options=unet_files.lora_names(),
                    tooltip="A LoRA file that U-Net Identity Finetune wrote with the form T-LoRA.",
                ),
                strength_input(tooltip="How strongly it changes the model: 1 as trained, 0 not at all."),
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="model", tooltip="The model with the LoRA, for any sampler."),
                io.Clip.Output(
                    "CLIP",
                    display_name="clip",
                    tooltip="The text encoder, with the LoRA's part for it, where the file has one.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> float:
        """Changes with the file, so that the host does not reuse what an older one gave."""
        return unet_files.lora_path(file).stat().st_mtime

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool:
        """Raises ValueError for a file that is no T-LoRA; None: it comes by a link."""
        if file is not None:
            if file not in unet_files.lora_names():
                raise ValueError(f"file: there is no {quoted(file)} among the LoRAs; refresh the list and choose one.")
            _card(file, foreign_files.read_header("file", unet_files.lora_path(file)).metadata)
        return True

    @classmethod
    def execute(cls, model: Any, clip: Any, file: str, strength: float) -> io.NodeOutput:
        validate_strength(strength)
        tensors, header = foreign_files.read("file", unet_files.lora_path(file))
        card = _card(file, header.metadata)
        return io.NodeOutput(*applied_lora(model, clip, lora=tensors, strength=strength, card=card))


def _card(file: str, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """Raises ValueError for one without a schedule."""
    card = file_metadata.card_in(metadata)
    if RANK_ENTRY not in card:
        raise ValueError(
            f"file: {quoted(file)} has no schedule of ranks, so it is no T-LoRA; load it with Load LoRA, or with Load "
            "Concept where it is a concept."
        )
    return card
