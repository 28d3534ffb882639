"""Settings of "Personalization Scorecard"."""

from __future__ import annotations

from dataclasses import dataclass

from ...core_ops.scores import APPEARANCE_PHRASES
from ..host.models.vision_models import VisionSource
from ..settings import choice, integer, switch, text
from .score_data import TEXT_SCORES

IDENTITY_AXES = ("dino", "clip_i", "subject_alignment", "style", "face")


@dataclass(frozen=True)
class ScorecardSettings:
    """Inputs of "Personalization Scorecard", in the order in which they are shown."""

    scorecard_name: str = text(
        "", help="Name in tables and charts, and of the files. Empty: the concept's name, or 'scorecard' without one."
    )
    super_category: str = text(
        "",
        help=(
            "What stands in CLIP-T's prompt for the concept: dog, teapot, teddy bear. Empty: the connected concept's; "
            "without one the concept is left out of the prompt."
        ),
    )
    clip_model: str = text(
        "openai/clip-vit-base-patch32",
        help=(
            "A CLIP that transformers can load: a folder (absolute, or inside ComfyUI's models folder) or an id of the "
            "Hugging Face hub. SID's paper takes ViT-B/32."
        ),
    )
    dino_model: str = text(
        "facebook/dino-vits16",
        help="A DINO, DINOv2 or DINOv3, by folder or hub id. Empty: no DINO. DreamBooth's evaluation takes ViT-S/16.",
    )
    style_model: str = text(
        "",
        help="For style concepts: folder or hub id of a CLIP, in which the style score compares whole pictures; CSD's "
        "weights as the help page says. Empty: no style score.",
    )
    face_model: str = text(
        "",
        help="For people: a folder of InsightFace's ONNX files, such as insightface/models/buffalo_l, whose "
        "recogniser compares the faces. Needs the package onnxruntime. Empty: no face score.",
    )
    allow_downloads: bool = switch(
        False,
        help="Fetch a model from Hugging Face when its id is not in the local cache. Off: nothing uses the network.",
    )
    overwrite: bool = switch(False, help="Replace files of the same name. Off: a number is added to the new ones.")
    identifier: str = text(
        "",
        help=(
            "A word of your prompts that stands for the concept, such as 'sks'. embedding:NAME and {} are known anyway."
        ),
        advanced=True,
    )
    batch_size: int = integer(
        32, low=1, high=4096, help="Pictures per pass of CLIP and DINO. Lower it to save memory.", advanced=True
    )
    precision: str = choice(
        ("fp32", "auto"),
        help="Number format of CLIP and DINO. auto: bf16 where the hardware has it, else fp32.",
        advanced=True,
    )
    resamples: int = integer(
        2000, low=100, high=100_000, help="Bootstrap resamples behind each 95% interval.", advanced=True
    )
    seed: int = integer(
        0,
        low=0,
        high=2**63 - 1,
        help="Seed of the bootstrap: same seed, same intervals.",
        advanced=True,
        control_after_generate=False,
    )
    pareto_identity: str = choice(
        IDENTITY_AXES,
        help="Identity score of the chart pareto. When it is missing, the next one is taken.",
        advanced=True,
    )
    pareto_text: str = choice(TEXT_SCORES, help="Text score of the chart pareto.", advanced=True)
    appearance_words: str = text(
        ", ".join(APPEARANCE_PHRASES),
        help=(
            "Prompts with one of these words restyle the concept or its outfit and are left out of the identity scores "
            "(CLIP-I, DINO, SA, NSD), as in the papers. Separated by commas; empty: none is left out."
        ),
        advanced=True,
        multiline=True,
    )

    def __post_init__(self) -> None:
        if not self.clip_model.strip():
            raise ValueError("clip_model: it is empty; name a folder or an id, such as 'openai/clip-vit-base-patch32'.")

    @property
    def clip(self) -> VisionSource:
        return self._source("clip_model")

    @property
    def dino(self) -> VisionSource | None:
        return self._source("dino_model") if self.dino_model.strip() else None

    @property
    def style(self) -> VisionSource | None:
        return self._source("style_model") if self.style_model.strip() else None

    @property
    def face(self) -> VisionSource | None:
        return self._source("face_model") if self.face_model.strip() else None

    def _source(self, input_name: str) -> VisionSource:
        return VisionSource(
            input_name=input_name,
            model=getattr(self, input_name),
            allow_downloads=self.allow_downloads,
            precision=self.precision,
        )

    @property
    def appearance_phrases(self) -> tuple[str, ...]:
        return tuple(phrase.strip() for phrase in self.appearance_words.split(",") if phrase.strip())
