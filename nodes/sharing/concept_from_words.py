"""Node "Concept from Words": words that the model knows as a concept, such as the rare word of a DreamBooth LoRA."""

from __future__ import annotations

import re
from typing import Any

from comfy_api.latest import io

from ...core_ops.quoting import quoted
from ..concept import Concept, ConceptIO
from ..files.concept_files import embedding_path
from ..host.models.text_encoder import word_vectors
from ..host.prompts.prompt_rows import PromptRows, naming
from ..labels import LABELS


class ConceptFromWords(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReConceptFromWords",
            display_name="Concept from Words",
            category="CoRe Personalization",
            description="Makes a concept of words that the model knows. Nothing is trained, no file is written.",
            search_aliases=["rare token", "trigger word", "sks", "dreambooth", "lora training"],
            inputs=[
                io.Clip.Input("clip", tooltip="The model's text encoder. It stays as it is."),
                io.String.Input(
                    "words",
                    display_name="Words that call it",
                    default="sks",
                    tooltip="What calls the concept in prompts. DreamBooth takes a rare word, such as sks.",
                ),
                io.String.Input(
                    "super_category",
                    display_name=LABELS["super_category"],
                    default="dog",
                    tooltip="What kind of thing it is, in one or a few plain words: dog, teapot, teddy bear.",
                ),
                io.Boolean.Input(
                    "with_category",
                    display_name="Write both in prompts",
                    default=True,
                    tooltip="Write the super-category after the words, as DreamBooth does: sks dog.",
                ),
            ],
            outputs=[
                ConceptIO.Output("concept", display_name="concept", tooltip="For U-Net Identity Finetune and others."),
                io.String.Output("prompt", display_name="prompt", tooltip="Write this in any prompt."),
            ],
        )

    @classmethod
    def validate_inputs(cls, words: str | None = None, super_category: str | None = None) -> bool:
        """Raises ValueError for what the widgets alone show; None: it comes by a link."""
        _validate("sks" if words is None else words, "dog" if super_category is None else super_category)
        return True

    @classmethod
    def execute(cls, clip: Any, words: str, super_category: str, with_category: bool) -> io.NodeOutput:
        _validate(words, super_category)
        rows = PromptRows(clip, super_category)
        with naming("words"):
            tokens = rows.words(words)
        if not tokens[0]:
            raise ValueError(f"words: {quoted(words)} gives no token; use plain words.")
        name = re.sub(r"[^\w.-]+", "-", words.strip())
        concept = Concept(
            name,
            super_category.strip(),
            vectors=word_vectors(clip, tokens),
            path=embedding_path(name),
            with_category=with_category,
            words=words.strip(),
        )
        return io.NodeOutput(concept, concept.phrase)


def _validate(words: str, super_category: str) -> None:
    for name, text, example in (("words", words, "sks"), ("super_category", super_category, "dog")):
        if not text.strip():
            raise ValueError(f"{name}: it is empty; write one, such as {example}.")
        if "embedding:" in text or "{" in text:
            raise ValueError(f"{name}: {quoted(text)} is more than plain words; write words that the model knows.")
