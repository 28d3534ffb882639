"""Context similarities as a chart like CoRe's Figure 2 (left), and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..charts import as_image, new_figure
from ..tables import markdown_table

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
