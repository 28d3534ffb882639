"""Node "Context Attention Probe": a MODEL for any sampler that notes what its pictures attend to while sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...core_ops.prompts.prompt_words import listed, watch_everything, watch_phrases
from ...core_ops.quoting import LONGEST, shortened
from ..host.attention.attention_plan import PARTS, WatchedText, WatchPlan
from ..host.attention.sampling_probe import AttentionProbe
from ..host.models.denoiser import unet_of
from ..host.models.text_encoder import validate_width
from ..host.models.unet_layout import Layer, LayerPlace, layer_places
from ..host.prompts.prompt_reading import encoded_texts, read_phrases, read_prompt
from ..host.run_control import node_id_of, show_text
from ..settings import RefusingNode, schema_inputs, validated
from .attention_settings import CONDITIONAL, EACH_HEAD, LISTED_LAYERS, RESOLUTIONS, UNCONDITIONAL, ProbeSettings

ProbeIO = io.Custom("CORE_PROBE")


class ContextAttentionProbe(RefusingNode):
    SETTINGS = ProbeSettings

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
                io.Model.Output(
                    "model", display_name="model", tooltip="The connected model, watched. For any sampler."
                ),
                ProbeIO.Output("probe", display_name="probe", tooltip="For Attention Maps; filled while sampling."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, clip: Any, conditioning: Any = None, **inputs: Any) -> io.NodeOutput:
        settings = validated(ProbeSettings, inputs)
        node_id = node_id_of(cls)
        plan = watch_plan(settings, model=model, clip=clip, conditioning=conditioning)
        probe = AttentionProbe(plan, node_id)
        needed = plan.bytes_needed((64, 64), steps=1, images=1) / 2**20
        per = " per picture and step" if plan.each_step else " per picture"
        show_text(
            f"{len(plan.text.words)} words, {len(plan.layers)} layers: {needed:.2f} MiB at 512×512 pixels{per}", node_id
        )
        return io.NodeOutput(probe.attach(model), probe)


def watch_plan(settings: ProbeSettings, model: Any, clip: Any, conditioning: Any = None) -> WatchPlan:
    """Raises ValueError for everything that can be refused before a sampling starts."""
    layers = chosen_layers(settings, layer_places(unet_of(model)))
    validate_width(clip, model)
    prompt = read_prompt(clip, settings.prompt)
    phrases = read_phrases(clip, settings.words)
    given = tuple(entry[0] for entry in conditioning or ())
    text = WatchedText(
        prompt=settings.prompt,
        words=watch_phrases(prompt, phrases) if phrases else watch_everything(prompt),
        length=prompt.length,
        row_length=prompt.length // prompt.rows,
        contexts=tuple(context.float().cpu() for context in given or encoded_texts(clip, settings.prompt)),
        contexts_given=bool(given),
    )
    return WatchPlan(
        text=text,
        layers=layers,
        part=PARTS[(CONDITIONAL, UNCONDITIONAL).index(settings.part)],
        steps=range(settings.first_step, settings.last_step + 1),
        each_step=settings.each_step,
        each_head=settings.heads == EACH_HEAD,
        memory_limit=settings.memory_limit * 2**20,
    )


def chosen_layers(settings: ProbeSettings, places: Mapping[Layer, LayerPlace]) -> dict[Layer, LayerPlace]:
    """The layers that the settings name; raises ValueError when there is none such, or heads cannot be kept apart."""
    if settings.layers == LISTED_LAYERS:
        by_name = {".".join(map(str, layer)): layer for layer in places}
        wanted = listed(settings.layer_list)
        unknown = [name for name in wanted if name not in by_name]
        if unknown or not wanted:
            came = f"{shortened(', '.join(unknown), LONGEST)} is not in this model" if unknown else "it names no layer"
            raise ValueError(f"layer_list: {came}; write some of {', '.join(by_name)}, separated by commas.")
        chosen = {by_name[name]: places[by_name[name]] for name in wanted}
    elif settings.layers in RESOLUTIONS:
        halvings = RESOLUTIONS.index(settings.layers)
        chosen = {layer: place for layer, place in places.items() if place.halvings == halvings}
    else:
        chosen = dict(places)
    if not chosen:
        there = ", ".join(RESOLUTIONS[n] for n in sorted({place.halvings for place in places.values()}))
        raise ValueError(f"layers: this model has no cross-attention at {settings.layers}; choose {there}.")
    heads = sorted({place.heads for place in chosen.values()})
    if settings.heads == EACH_HEAD and len(heads) > 1:
        raise ValueError(f"heads: the layers have {heads} heads; choose layers of one resolution, or heads = mean.")
    return chosen
