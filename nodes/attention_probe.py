"""Node "Context Attention Probe": a MODEL for any sampler that notes what its pictures attend to while sampling."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .attention_settings import ProbeSettings
from .settings import schema_inputs, validated

ProbeIO = io.Custom("CORE_PROBE")


class ContextAttentionProbe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReContextAttentionProbe",
            display_name="Context Attention Probe",
            category="CoRe Personalization",
            description="Notes how much, and where, the picture attends to each word while any sampler draws it.",
            search_aliases=["cross-attention", "attention maps", "daam", "heat map", "why is my word ignored"],
            inputs=[
                io.Model.Input("model", tooltip="A Stable Diffusion 1.x, 2.x or XL model. It stays as it is."),
                io.Clip.Input("clip", tooltip="The text encoder of the conditioning, with the same LoRAs."),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="Conditioning to watch, when it is not what CLIP Text Encode makes of the prompt, "
                    "such as that of CoRe Test-Time Optimize. Optional.",
                ),
                *schema_inputs(ProbeSettings),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The same model, watched. For any sampler."),
                ProbeIO.Output("probe", display_name="probe", tooltip="For Attention Maps; filled while sampling."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, clip: Any, conditioning: Any = None, **inputs: Any) -> io.NodeOutput:
        settings = validated(ProbeSettings, inputs)
        raise NotImplementedError(settings)
