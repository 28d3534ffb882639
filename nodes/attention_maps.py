"""Node "Attention Maps": what a probe saw, as pictures, masks and a table."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .attention_probe import ProbeIO
from .attention_settings import MapSettings
from .settings import schema_inputs, validated


class AttentionMaps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReAttentionMaps",
            display_name="Attention Maps",
            category="CoRe Personalization",
            description="Shows where the picture attends to each word: overlays, masks, a table, and the steps.",
            search_aliases=["cross-attention", "attention heat map", "daam", "mask from word", "token shares"],
            is_output_node=True,
            inputs=[
                ProbeIO.Input("probe", tooltip="From Context Attention Probe."),
                io.Latent.Input("latent", tooltip="What the probed sampler made, so that this node waits for it."),
                io.Image.Input("images", tooltip="The same, decoded: one picture for each latent."),
                ProbeIO.Input("second_probe", optional=True, tooltip="Another probe, to show below. Optional."),
                io.Latent.Input("second_latent", optional=True, tooltip="What the second probed sampler made."),
                io.Image.Input("second_images", optional=True, tooltip="The same, decoded."),
                *schema_inputs(MapSettings),
            ],
            outputs=[
                io.Image.Output("overlays", display_name="overlays", tooltip="A page of maps for each picture."),
                io.Mask.Output("masks", display_name="masks", tooltip="All pictures' masks of the first word, then …"),
                io.String.Output("table", display_name="table", tooltip="Each token's share of the attention."),
                io.Image.Output("frames", display_name="frames", tooltip="The pages step by step, for an animation."),
            ],
        )

    @classmethod
    def execute(
        cls,
        probe: Any,
        latent: Any,
        images: Any,
        second_probe: Any = None,
        second_latent: Any = None,
        second_images: Any = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        settings = validated(MapSettings, inputs)
        raise NotImplementedError(settings)
