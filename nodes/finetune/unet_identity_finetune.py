"""Node "U-Net Identity Finetune": teaches the U-Net what the concept looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io, ui

from ..concept import ConceptIO
from ..files import safe_files, unet_files
from ..host.models.host_models import HostModels
from ..host.run_control import blocked_output, node_id_of, releasing_memory, show_text
from ..prompt_concepts import SOCKETS
from ..settings import NO_FILE, RefusingNode, schema_inputs, validated
from ..training.loss_chart import over_chart
from ..training.training_inputs import (
    WrittenFiles,
    class_images_input,
    curve_outputs,
    model_inputs,
    picture_inputs,
    resolution_output,
)
from .also_train import also_input
from .finetune_inputs import GivenPictures, check_finetune, check_settings
from .finetune_settings import FinetuneSettings
from .finetuning import finetune_unet

NO_LORA = "U-Net Identity Finetune made no LoRA: set save to 'LoRA' or 'whole U-Net and LoRA'."
NO_OTHER = "U-Net Identity Finetune trained no such concept: connect one by Also Train."
SEARCHED = [
    "dreambooth",
    "train lora",
    "lora training",
    "custom diffusion",
    "attndreambooth",
    "svdiff",
    "finetune",
    "train my face",
    "train my dog",
    "teach",
    "learn person",
    "style",
]


_WRITTEN = WrittenFiles()


class UNetIdentityFinetune(RefusingNode):
    SETTINGS = FinetuneSettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReUNetIdentityFinetune",
            display_name="U-Net Identity Finetune",
            category="CoRe Personalization",
            description="Teaches the U-Net what a learned concept looks like: CoRe stage 2, DreamBooth and others.",
            search_aliases=SEARCHED,
            is_input_list=True,
            is_output_node=True,
            inputs=[
                *model_inputs(),
                ConceptIO.Input("concept", tooltip="From CoRe Train Embedding, Load Concept or another finetune."),
                *picture_inputs(["use_masks"]),
                class_images_input(["class_caption", "prior_weight"]),
                also_input(
                    "From Also Train: more concepts with pictures of their own, in the same training. Optional."
                ),
                *schema_inputs(FinetuneSettings),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The finetuned model, for any sampler."),
                io.Custom("LORA_MODEL").Output(
                    "lora", display_name="lora", tooltip="For Save LoRA Weights and Load LoRA Model."
                ),
                *curve_outputs(),
                io.String.Output("file", display_name="file", tooltip="Path of the file that was written."),
                ConceptIO.Output(
                    "concept", display_name="concept", tooltip="The concept; refined, if it was trained along."
                ),
                resolution_output(),
                io.Clip.Output(
                    "clip", display_name="clip", tooltip="The text encoder; finetuned, if it was trained along."
                ),
                *(
                    ConceptIO.Output(
                        name, display_name=name, tooltip="Of Also Train; refined, if it was trained along."
                    )
                    for name in SOCKETS[1:]
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(
        cls, name: Sequence[str | None] = (None,), start_from: Sequence[str | None] = (NO_FILE,), **_: Any
    ) -> tuple[int, tuple[int, ...] | None]:
        """Changes when a file is gone that the node left, and with the file to start from, so that the host does not
        reuse what an older one gave; not with one that the node itself replaces. None: it comes by a link."""
        gone = _WRITTEN.times_gone(str(name[0]))
        if start_from[0] in (None, NO_FILE):
            return gone, None
        path = unet_files.lora_path(start_from[0])
        own = path == unet_files.new_file_path("loras", str(name[0]))
        return gone, None if own else safe_files.mark_of(path)

    @classmethod
    def refuse(cls, settings: FinetuneSettings) -> None:
        check_settings(settings)

    @classmethod
    def execute(  # noqa: PLR0913 - its sockets
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        concept: Any,
        images: Any,
        masks: Any = None,
        captions: Any = None,
        photos: Any = None,
        class_images: Any = None,
        also: Any = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        settings, node_id = validated(FinetuneSettings, inputs), node_id_of(cls)
        show_text("Reading the pictures …", node_id)
        host = HostModels(model[0], clip[0], vae[0])
        given = GivenPictures(images, masks, captions, class_images=class_images, photos=photos and photos[0])
        checked = check_finetune(host, concept[0], given, settings, also[0] if also else [])
        with releasing_memory("batch_size or resolution, or switch gradient_checkpointing on"):
            result = finetune_unet(host, checked, node_id)
        _WRITTEN.note(settings.name, *checked.files.written)
        pictures = over_chart(result.preview, result.chart)
        shown = {**ui.PreviewImage(pictures, cls=cls).as_dict(), **ui.PreviewText(result.summary).as_dict()}
        lora = blocked_output(NO_LORA) if result.lora is None else result.lora
        outputs = (result.model, lora, result.losses, result.preview, result.chart, str(result.path))
        first, *others = result.concepts
        others += [blocked_output(NO_OTHER)] * (len(SOCKETS) - len(result.concepts))
        return io.NodeOutput(*outputs, first, checked.settings.resolution, result.clip, *others, ui=shown)
