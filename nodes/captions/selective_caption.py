"""Node "Selectively Informative Captions": what SID (Kim et al. 2024) says of each picture, for the training nodes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..files import caption_files
from ..host.run_control import node_id_of, releasing_memory
from ..settings import RefusingNode, schema_inputs, showing, validated
from .caption_settings import NOWHERE, CaptionSettings
from .captioning import check_inputs, make_captions, report_of


class SelectiveCaption(RefusingNode):
    SETTINGS = CaptionSettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReSelectiveCaption",
            display_name="Selectively Informative Captions",
            category="CoRe Personalization",
            description="A caption per picture that tells everything but the concept, so that nothing else is learned.",
            search_aliases=["SID", "caption", "captions", "vlm", "describe image", "personalization"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The training pictures, as a batch or a list, of any sizes."),
                io.Clip.Input(
                    "vision_clip",
                    optional=True,
                    tooltip="A vision-language model, as ComfyUI's Generate Text takes it (Qwen3-VL, Gemma 3 …). "
                    "It describes the pictures that have no other text. Optional.",
                    extra_dict=showing({"connected": ["max_tokens", "temperature", "seed", "own_instruction"]}),
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Text encoder of the diffusion model: captions are kept to one of its rows of 77 tokens. "
                    "Without it at most 50 words and marks are kept. Optional.",
                ),
                io.String.Input(
                    "captions",
                    optional=True,
                    force_input=True,
                    tooltip="Texts from another node, such as Concept Images: one per picture. Optional.",
                ),
                *schema_inputs(CaptionSettings),
            ],
            outputs=[
                io.String.Output(
                    "captions",
                    display_name="captions",
                    is_output_list=True,
                    tooltip="One caption per picture, each with {} once: for captions of the training nodes.",
                ),
                io.String.Output("report", display_name="report", tooltip="What was repaired, per picture."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def refuse(cls, settings: CaptionSettings) -> None:
        if settings.save_to != NOWHERE:
            caption_files.folder(settings.save_to, settings.save_folder)

    @classmethod
    def execute(
        cls, images: Any, vision_clip: Any = None, clip: Any = None, captions: Any = None, **inputs: Any
    ) -> io.NodeOutput:
        settings = validated(CaptionSettings, inputs)
        checked = check_inputs(
            images=images,
            captions=captions,
            reader=vision_clip[0] if vision_clip else None,
            clip=clip[0] if clip else None,
            settings=settings,
        )
        with releasing_memory("max_tokens or the size of the pictures"):
            made = make_captions(checked, node_id_of(cls))
        texts = [caption.text for caption in made]
        # The pictures too: a folder is loaded in no certain order, and a typed line is for the picture of its place.
        shown = ui.PreviewImage([picture.movedim(0, -1) for picture in checked.pictures], cls=cls).as_dict()
        shown |= ui.PreviewText("\n".join(texts)).as_dict()
        return io.NodeOutput(texts, report_of(checked, made), ui=shown)
