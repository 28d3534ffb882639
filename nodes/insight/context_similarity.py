"""Node "Context Similarity": what exchanging one word of a prompt does to the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ...core_ops.prompts.prompt_templates import fill, validate_template
from ...core_ops.prompts.token_rows import AlignedPair, TokenRow
from ...core_ops.quoting import quoted
from ...core_ops.scores.token_similarity import context_labels, context_similarities
from ..charts import as_image, new_figure
from ..concept import Concept, ConceptIO
from ..host.models.text_encoder import host_outputs
from ..host.prompts.prompt_reading import read_prompt
from ..host.prompts.prompt_rows import TemplateRows
from ..settings import RefusingNode, schema_inputs, text, validated
from ..tables import markdown_table

MOST_WORDS = 20
CONCEPT_NAME = "concept"


@dataclass(frozen=True)
class SimilaritySettings:
    """Inputs of "Context Similarity", in the order in which they are shown."""

    prompt: str = text(
        "a photo of a {} in the desert",
        help="A prompt with {} once, where the words are put one after the other.",
        multiline=True,
    )
    words: str = text(
        "dog\ncat\npuppy",
        help=("What to put there, one per line: words, or embedding:NAME. All are compared with the first."),
        multiline=True,
    )

    @property
    def listed(self) -> list[str]:
        """Each word once."""
        return list(dict.fromkeys(line.strip() for line in self.words.splitlines() if line.strip()))


class ContextSimilarity(RefusingNode):
    SETTINGS = SimilaritySettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReContextSimilarity",
            display_name="Context Similarity",
            category="CoRe Personalization",
            description="Shows how alike the text encoder reads the other words of a prompt when one is exchanged.",
            search_aliases=["cosine similarity", "token similarity", "compare embeddings", "why is my word ignored"],
            is_output_node=True,
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of a Stable Diffusion 1.x, 2.x or XL model."),
                ConceptIO.Input(
                    "concept", optional=True, tooltip="A learned concept to compare as well, after the words. Optional."
                ),
                *schema_inputs(SimilaritySettings),
            ],
            outputs=[
                io.Image.Output("chart", display_name="chart", tooltip="One line per word, one place per token."),
                io.String.Output("table", display_name="table", tooltip="The chart's figures as a Markdown table."),
            ],
        )

    @classmethod
    def refuse(cls, settings: SimilaritySettings) -> None:
        validate_template("prompt", settings.prompt)
        validate_count(max(len(settings.listed), 2))  # A concept may come beside one word, or in place of any.

    @classmethod
    def execute(cls, clip: Any, concept: Concept | None = None, **inputs: Any) -> io.NodeOutput:
        settings = validated(SimilaritySettings, inputs)
        tokens, similarities = compare(clip, settings, concept)
        base = next(iter(similarities))
        title = f"{settings.prompt}: similarity of each token with that beside “{base}”"
        chart = similarity_chart(title, tokens, similarities)
        shown = ui.PreviewImage(chart, cls=cls)
        return io.NodeOutput(chart, similarity_table(tokens, similarities), ui=shown)


def compare(
    clip: Any, settings: SimilaritySettings, concept: Concept | None
) -> tuple[ContextTokens, dict[str, Tensor]]:
    """The tokens around {}, and per word the similarity [n] of each with that beside the first word."""
    validate_template("prompt", settings.prompt)
    words = {word: word for word in settings.listed}
    if concept is not None:
        concept.validate_for(clip)
        words[concept.token] = concept.phrase_of(f"embedding:{CONCEPT_NAME}")
    validate_count(len(words))
    rows = TemplateRows(clip, {} if concept is None else {CONCEPT_NAME: concept.vectors})
    pairs: dict[str, AlignedPair] = {}
    for word, filling in words.items():
        try:
            row = rows.row(settings.prompt, [filling])
        except ValueError as error:
            raise ValueError(f"words: {quoted(word)} cannot be put into the prompt. {error}") from error
        if not row.span:
            raise ValueError(f"words: {quoted(word)} gives no token; write a word or embedding:NAME.")
        pairs[word] = _pair_with_first(row, pairs, word)
    first = next(iter(pairs))
    text_of = {word: host_outputs(clip, pair.concept) for word, pair in pairs.items()}
    similarities = {word: context_similarities(text_of[word], text_of[first], pair) for word, pair in pairs.items()}
    row = pairs[first].concept
    told = concept.phrase if concept is not None and first == concept.token else words[first]
    labels = context_labels(read_prompt(clip, fill(settings.prompt, [told])), row)
    return ContextTokens(labels=tuple(labels), before=row.span.start), similarities


def validate_count(words: int) -> None:
    if not 2 <= words <= MOST_WORDS:
        raise ValueError(f"words: got {words}, the concept included; give 2 to {MOST_WORDS}, one per line: dog, cat.")


def _pair_with_first(row: TokenRow, pairs: Mapping[str, AlignedPair], word: str) -> AlignedPair:
    """The row of a word beside that of the first word, which is its own partner."""
    first = next((pair.concept for pair in pairs.values()), row)
    try:
        return AlignedPair(row, first)
    except ValueError as error:
        raise ValueError(
            f"words: {quoted(word)} changes how the words around it are split; leave punctuation at its ends away."
        ) from error


TOKEN_WIDTH, FRAME_WIDTH, HEIGHT = 60, 260, 480
BASE_STYLE = {"color": "black", "linewidth": 1}


@dataclass(frozen=True)
class ContextTokens:
    """Labels of the tokens around {}, and how many of them stand before it."""

    labels: tuple[str, ...]
    before: int


def similarity_chart(title: str, tokens: ContextTokens, similarities: Mapping[str, Tensor]) -> Tensor:
    """One line per word over the tokens, {} in its place: [1, H, W, 3]."""
    places = [index + (index >= tokens.before) for index, _ in enumerate(tokens.labels)]
    figure = new_figure(FRAME_WIDTH + TOKEN_WIDTH * (len(places) + 1), HEIGHT)
    axes = figure.subplots()
    for number, (word, values) in enumerate(similarities.items()):
        # The base word is 1 everywhere: a thin line, so that those above it are seen.
        style: dict[str, Any] = {"color": f"C{number - 1}", "marker": "o"} if number else BASE_STYLE
        axes.plot(places, values.tolist(), label=word, linestyle="--" if number > 10 else "-", **style)
    axes.axvline(tokens.before, color="grey", linestyle=":", linewidth=1)
    axes.set_xticks([*places, tokens.before], [*tokens.labels, "{}"], rotation=45, ha="right", parse_math=False)
    axes.set_ylabel("cosine similarity of the output embeddings")
    axes.set_title(title, fontsize="medium", parse_math=False, wrap=True)
    axes.grid(axis="y", alpha=0.3)
    for entry in axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5)).get_texts():
        entry.set_parse_math(False)
    return as_image(figure)


def similarity_table(tokens: ContextTokens, similarities: Mapping[str, Tensor]) -> str:
    """A row per token and a column per word; the mean is 1 − L_emb of CoRe's Eq. 3."""
    base, *others = similarities
    columns = [similarities[word].tolist() for word in others]
    rows = [
        (label, *(f"{value:.4f}" for value in values)) for label, *values in zip(tokens.labels, *columns, strict=True)
    ]
    mean = ("**mean**", *(f"**{similarities[word].mean():.4f}**" for word in others))
    return markdown_table((f"beside “{base}”", *others), [*rows, mean])
