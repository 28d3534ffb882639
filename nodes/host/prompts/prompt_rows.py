"""Prompt templates to token rows, split by the host's own tokenizer just as it will split the finished prompt."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy.sd import CLIP
from comfy.sd1_clip import SDTokenizer

from ....core_ops.prompts.prompt_templates import PLACES, fill, is_plain
from ....core_ops.prompts.token_rows import AlignedPair, ConceptSlot, TokenRow
from ....core_ops.quoting import quoted
from ..models.text_encoder import encoder_names
from .tokenizer import PromptError, naming, with_embeddings

__all__ = ["PromptError", "PromptRows", "Slots", "TemplateRows", "naming"]

PLACEHOLDER = "core_concept_slot"
_MARKS = tuple(f"core_place_{number}" for number, _ in enumerate(PLACES))

EmbeddingLike = Any
"""Vectors [V, width], or `Slots`: what the host's tokenizer takes for a loaded embedding."""


@dataclass(frozen=True)
class Slots:
    """Looks to the host's tokenizer like a loaded embedding of `vectors` vectors; becomes slots from `first` on."""

    vectors: int
    first: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return (self.vectors, 0)

    def __getitem__(self, index: int) -> ConceptSlot:
        return ConceptSlot(self.first + index)


class TemplateRows:
    """Splits filled templates with one CLIP's tokenizers, which also know some embeddings by names of ours.

    named: what `embedding:name` stands for, per name and encoder.
    """

    def __init__(self, clip: CLIP, named: Mapping[str, Mapping[str, EmbeddingLike]]) -> None:
        self.encoders = encoder_names(clip)
        self._options = clip.tokenizer_options
        self._tokenizer = self._knowing(clip, named)
        marks = {mark: dict.fromkeys(self.encoders, Slots(1, place)) for place, mark in enumerate(_MARKS)}
        self._marking_tokenizer = self._knowing(clip, {**named, **marks})

    def _knowing(self, clip: CLIP, named: Mapping[str, Mapping[str, EmbeddingLike]]) -> Any:
        tokenizer = copy.copy(clip.tokenizer)
        for encoder in self.encoders:
            own = {name: per_encoder[encoder] for name, per_encoder in named.items()}
            setattr(tokenizer, encoder, with_embeddings(getattr(clip.tokenizer, encoder), own))
        return tokenizer

    def host_tokens(self, prompt: str) -> dict[str, list[list[tuple[Any, float]]]]:
        """The host's `tokenize` of the prompt, with our embeddings in it: what its CLIP encodes."""
        return self._tokenizer.tokenize_with_weights(prompt, tokenizer_options=self._options)

    def row(self, template: str, fillings: Sequence[str] = ()) -> TokenRow:
        """The row of a filled template; its spans are what stands at the template's `PLACES`, in their order.

        Raises ValueError when it needs more than one row, or names an embedding that is missing or of another base
        model.
        """
        rows = self._checked(self.host_tokens(fill(template, fillings)), template)
        end = _first_end(rows[self.encoders[0]], self._host_tokenizer())
        spans = self._spans(template, fillings, end)
        return TokenRow(
            tokens={encoder: tuple(token for token, _ in row) for encoder, row in rows.items()},
            weights=tuple(float(weight) for _, weight in rows[self.encoders[0]]),
            span=spans[0] if spans else range(0),
            end=end,
            other_spans=tuple(spans[1:]),
        )

    def words(self, text: str) -> list[list[Any]]:
        """Entries of a text, per encoder, without start and end."""
        return [
            [token for token, _ in row[1 : _first_end(row, self._host_tokenizer(encoder))]]
            for encoder, row in self._checked(self.host_tokens(text), text).items()
        ]

    def _spans(self, template: str, fillings: Sequence[str], end: int) -> list[range]:
        """Where the fillings stand in a row whose first end-of-text is at `end`: each place's range of positions.

        Each place is found by a mark of one token, and made as long as its filling.
        """
        # The filled row itself does not show where a filling stands: its tokens may be in the prompt elsewhere too.
        # So the template is split once more, with marks that are vectors of ours and found nowhere else.
        marked = fill(template, [f"embedding:{mark}" for mark in _MARKS[: len(fillings)]])
        tokens = self._marking_tokenizer.tokenize_with_weights(marked, tokenizer_options=self._options)
        row = self._checked(tokens, template)[self.encoders[0]]
        lengths = [len(self.words(filling)[0]) for filling in fillings]
        spans: dict[int, range] = {}
        moved = 0  # by how much fillings of other lengths than one token have moved what comes after them
        for position, (token, _) in enumerate(row):
            if isinstance(token, ConceptSlot):
                start = position + moved
                spans[token.index] = range(start, start + lengths[token.index])
                moved += lengths[token.index] - 1
        # If the two rows do not end together, a filling became one word with its neighbours, and no span is true.
        if end != _first_end(row, self._host_tokenizer()) + moved:
            raise PromptError(f"{quoted(template)} becomes one word with what is put into it; put a space between.")
        return [spans[place] for place in sorted(spans)]

    def _checked(
        self, tokens: Mapping[str, list[list[tuple[Any, float]]]], shown: str
    ) -> dict[str, list[tuple[Any, float]]]:
        """The only row of each encoder; raises PromptError for several. shown: the prompt as the user knows it."""
        only: dict[str, list[tuple[Any, float]]] = {}
        for encoder in self.encoders:
            rows = tokens[encoder.removeprefix("clip_")]
            if len(rows) != 1:
                longest = self._host_tokenizer(encoder).max_length
                raise PromptError(f"{quoted(shown)} needs {len(rows)} rows of {longest} tokens; shorten it to one row.")
            only[encoder] = rows[0]
        return only

    def _host_tokenizer(self, encoder: str = "") -> SDTokenizer:
        return getattr(self._tokenizer, encoder or self.encoders[0])


def validate_words(parameter: str, text: str) -> None:
    """Raises ValueError, beginning with `parameter`, for what is not words of the vocabulary."""
    if "embedding:" in text:
        raise ValueError(f"{parameter}: {quoted(text)} names an embedding; use plain words, such as 'dog'.")
    if set(text) & set("{}"):
        raise ValueError(f"{parameter}: {quoted(text)} has a brace; write the words alone, such as 'dog'.")


def validate_category(text: str) -> None:
    """Raises ValueError for a super-category that the card of a file could not have: it stands in prompts."""
    validate_words("super_category", text)
    if text.strip() and not is_plain(text):
        raise ValueError(
            f"super_category: {quoted(text)} has brackets, more than one line, or more than 100 characters; write "
            "plain words, such as 'dog'."
        )


class PromptRows:
    """Makes token rows for one CLIP and one concept of `vectors` vectors that are to be trained, from `first` on."""

    def __init__(self, clip: CLIP, super_category: str, vectors: int = 1, first: int = 0) -> None:
        validate_category(super_category)
        self._super_category, self.first = super_category, first
        self._rows = TemplateRows(clip, {PLACEHOLDER: dict.fromkeys(encoder_names(clip), Slots(vectors, first))})
        with naming("super_category"):
            tokens = self.words(super_category)[0]
        if not tokens:
            raise ValueError(
                f"super_category: {quoted(super_category)} gives no token; name the kind of thing, such as 'dog'."
            )

    def words(self, text: str) -> list[list[int]]:
        """Vocabulary ids of plain words, per encoder, without start and end."""
        validate_words("super_category", text)
        return self._rows.words(text)

    def concept(self, template: str) -> TokenRow:
        """The template, already validated, with the concept's vectors in place of {}."""
        return self._rows.row(template, [f"embedding:{PLACEHOLDER}"])

    def pair(self, template: str) -> AlignedPair:
        """The template with the concept, and with the super-category as reference."""
        return AlignedPair(self.concept(template), self._rows.row(template, [self._super_category]))

    def text(self, prompt: str) -> TokenRow:
        """A prompt without the concept."""
        return self._rows.row(prompt)


def _first_end(row: Sequence[tuple[Any, float]], tokenizer: SDTokenizer) -> int:
    """The position of the first end-of-text in a row."""
    return next(i for i, (token, _) in enumerate(row) if isinstance(token, int) and token == tokenizer.end_token)
