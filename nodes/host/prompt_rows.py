"""Prompt templates to token rows, split by the host's own tokenizer just as it will split the finished prompt."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from comfy.sd import CLIP
from comfy.sd1_clip import SDTokenizer
from torch import Tensor

from ...core_ops.token_rows import AlignedPair, ConceptSlot, TokenRow
from .text_encoder import encoder_names

PLACEHOLDER = "core_concept_slot"


@dataclass(frozen=True)
class _Slots:
    """Looks to the host's tokenizer like a loaded embedding of `vectors` vectors."""

    vectors: int

    @property
    def shape(self) -> tuple[int, int]:
        return (self.vectors, 0)

    def __getitem__(self, index: int) -> ConceptSlot:
        return ConceptSlot(index)


class PromptRows:
    """Makes token rows for one CLIP and one concept of `vectors` vectors."""

    def __init__(self, clip: CLIP, super_category: str, vectors: int = 1) -> None:
        self._super_category = super_category
        self._vectors = vectors
        self._options = clip.tokenizer_options
        self._tokenizers = {name: _with_slots(getattr(clip.tokenizer, name), vectors) for name in encoder_names(clip)}
        if not self.words(super_category)[0]:
            raise ValueError(
                f"super_category: {super_category!r} gives no token; name the kind of thing, such as 'dog'."
            )

    def words(self, text: str) -> list[list[int]]:
        """Vocabulary ids of plain words, per encoder, without start and end."""
        if "embedding:" in text:
            raise ValueError(f"super_category: {text!r} names an embedding; use plain words here and in initial_words.")
        rows = [self._split(tokenizer, text) for tokenizer in self._tokenizers.values()]
        return [
            [token for token, _ in row[1 : _first_end(row, tokenizer)]]
            for row, tokenizer in zip(rows, self._tokenizers.values(), strict=True)
        ]

    def concept(self, template: str) -> TokenRow:
        """The template, already validated, with the concept's vectors in place of {}."""
        return self._row(template.replace("{}", f"embedding:{PLACEHOLDER}"))

    def pair(self, template: str) -> AlignedPair:
        """The template with the concept, and with the super-category as reference."""
        concept = self.concept(template)
        reference = self._row(template.replace("{}", self._super_category))
        length = reference.end - concept.end + self._vectors
        span = range(concept.span.start, concept.span.start + length)
        return AlignedPair(concept, TokenRow(reference.tokens, reference.weights, span, reference.end))

    def text(self, prompt: str) -> TokenRow:
        """A prompt without the concept."""
        return self._row(prompt)

    def _row(self, prompt: str) -> TokenRow:
        rows = {name: self._split(tokenizer, prompt) for name, tokenizer in self._tokenizers.items()}
        (name, tokenizer), *_ = self._tokenizers.items()
        slots = [position for position, (token, _) in enumerate(rows[name]) if isinstance(token, ConceptSlot)]
        return TokenRow(
            tokens={encoder: tuple(token for token, _ in row) for encoder, row in rows.items()},
            weights=tuple(float(weight) for _, weight in rows[name]),
            span=range(slots[0], slots[0] + len(slots)) if slots else range(0),
            end=_first_end(rows[name], tokenizer),
        )

    def _split(self, tokenizer: SDTokenizer, prompt: str) -> list[tuple[Any, float]]:
        rows = tokenizer.tokenize_with_weights(prompt, tokenizer_options=self._options)
        if len(rows) != 1:
            prompt = prompt.replace(f"embedding:{PLACEHOLDER}", "{}")
            raise ValueError(
                f"prompt: {prompt!r} needs {len(rows)} rows of {tokenizer.max_length} tokens; shorten it to one row."
            )
        for token, _ in rows[0]:
            if isinstance(token, Tensor) and token.shape[-1] != tokenizer.embedding_size:
                raise ValueError(
                    f"prompt: an embedding in {prompt!r} has width {token.shape[-1]}, this model needs "
                    f"{tokenizer.embedding_size}; it was made for another base model."
                )
        return rows[0]


def _first_end(row: Sequence[tuple[Any, float]], tokenizer: SDTokenizer) -> int:
    return next(i for i, (token, _) in enumerate(row) if isinstance(token, int) and token == tokenizer.end_token)


def _with_slots(tokenizer: SDTokenizer, vectors: int) -> SDTokenizer:
    """A copy of the tokenizer that knows our placeholder as an embedding, and refuses unknown ones."""
    duplicate = copy.copy(tokenizer)
    duplicate.embedding_directory = tokenizer.embedding_directory or []

    def try_get_embedding(text: str) -> tuple[Any, str, str]:
        name, *rest = text.split()
        if name.rstrip(",") == PLACEHOLDER:
            leftover = [name.removeprefix(PLACEHOLDER), *rest]
            return _Slots(vectors), PLACEHOLDER, " ".join(filter(None, leftover))
        embedding, name, leftover = tokenizer._try_get_embedding(text)
        if embedding is None:
            raise ValueError(f"prompt: embedding:{name} does not exist in the embeddings folder; check the name.")
        return embedding, name, leftover

    duplicate._try_get_embedding = try_get_embedding
    return duplicate
