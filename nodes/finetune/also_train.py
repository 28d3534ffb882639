"""Node "Also Train": another concept with pictures of its own, for the same training."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..concept import ConceptIO
from ..training.training_inputs import class_images_input, picture_inputs
from .trained_concepts import GivenPictures

AlsoIO = io.Custom("CORE_ALSO")
"""A list of `GivenConcept`."""


def also_input(tooltip: str) -> io.Input:
    return AlsoIO.Input("also", optional=True, tooltip=tooltip)


class AlsoTrain(io.ComfyNode):
    """It only collects; U-Net Identity Finetune looks at what came."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReAlsoTrain",
            display_name="Also Train",
            category="CoRe Personalization",
            description="One more concept, with pictures of its own, in the same training: two pets, one LoRA.",
            search_aliases=["several concepts", "two concepts", "multi concept", "two pets", "train two", "combine"],
            is_input_list=True,
            inputs=[
                ConceptIO.Input("concept", tooltip="The other concept, from CoRe Train Embedding or Load Concept."),
                *picture_inputs(),
                class_images_input(),
                also_input("From another Also Train: a third concept. Optional."),
            ],
            outputs=[AlsoIO.Output("also", display_name="also", tooltip="For U-Net Identity Finetune.")],
        )

    @classmethod
    def execute(
        cls,
        concept: Any,
        images: Any,
        masks: Any = None,
        captions: Any = None,
        photos: Any = None,
        class_images: Any = None,
        also: Any = None,
    ) -> io.NodeOutput:
        given = GivenPictures(images, masks, captions, class_images, photos and photos[0])
        return io.NodeOutput([(concept[0], given), *(also[0] if also else [])])
