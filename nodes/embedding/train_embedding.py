"""Node "CoRe Train Embedding": learns a concept's text embedding from a few pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io, ui

from ..concept import ConceptIO
from ..host.models.host_models import HostModels
from ..host.run_control import node_id_of, releasing_memory, show_text
from ..settings import RefusingNode, schema_inputs, validated
from ..training.loss_chart import over_chart
from ..training.training_inputs import WrittenFiles, curve_outputs, model_inputs, picture_inputs, resolution_output
from .embedding_inputs import check_inputs, check_settings
from .embedding_settings import EmbeddingSettings
from .embedding_training import train_embedding

SEARCHED = [
    "textual inversion",
    "train embedding",
    "personalization",
    "attndreambooth",
    "train my face",
    "train my dog",
    "teach",
    "learn person",
    "style",
]


_WRITTEN = WrittenFiles()


class TrainEmbedding(RefusingNode):
    SETTINGS = EmbeddingSettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReTrainEmbedding",
            display_name="CoRe Train Embedding",
            category="CoRe Personalization",
            description="Learns your concept from a few pictures as a text embedding that keeps to the prompt.",
            search_aliases=SEARCHED,
            is_input_list=True,
            is_output_node=True,
            inputs=[
                *model_inputs(),
                *picture_inputs(["use_masks"]),
                ConceptIO.Input(
                    "start_from",
                    optional=True,
                    tooltip="A concept to train further, of this pack or of another program: from Load Concept. "
                    "Optional.",
                ),
                *schema_inputs(EmbeddingSettings),
            ],
            outputs=[
                ConceptIO.Output(
                    "concept", display_name="concept", tooltip="For Concept Prompt and the other CoRe nodes."
                ),
                io.String.Output("prompt_token", display_name="prompt_token", tooltip="Write this in any prompt."),
                *curve_outputs(),
                resolution_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, concept_name: Sequence[str | None] = (None,), **_: Any) -> int:
        """Changes when the file is gone that the node left: prompts would be drawn without the concept."""
        return _WRITTEN.times_gone(str(concept_name[0]))

    @classmethod
    def refuse(cls, settings: EmbeddingSettings) -> None:
        check_settings(settings)

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        images: Any,
        masks: Any = None,
        captions: Any = None,
        photos: Any = None,
        start_from: Any = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        settings, node_id = validated(EmbeddingSettings, inputs), node_id_of(cls)
        show_text("Reading the pictures …", node_id)
        host = HostModels(model[0], clip[0], vae[0])
        start = start_from[0] if start_from else None
        checked = check_inputs(host, images, masks, captions, settings, start, photos[0] if photos else None)
        with releasing_memory("batch_size or resolution, or switch gradient_checkpointing on"):
            trained = train_embedding(host, checked, node_id)
        _WRITTEN.note(settings.concept_name, trained.concept.path)
        pictures = over_chart(trained.preview, trained.chart)
        shown = {**ui.PreviewImage(pictures, cls=cls).as_dict(), **ui.PreviewText(trained.summary).as_dict()}
        outputs = (trained.concept, trained.concept.phrase, trained.losses, trained.preview, trained.chart)
        return io.NodeOutput(*outputs, checked.settings.resolution, ui=shown)
