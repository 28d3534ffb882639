"""A prompt's words, as the host's own tokenizer splits it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from comfy.sd import CLIP
from comfy.sd1_clip import SDTokenizer
from torch import Tensor

from ....core_ops.prompts.prompt_words import PromptWord, PromptWords
from ..models.text_encoder import encoder_names
from .tokenizer import naming, with_embeddings

NO_WORD = 0
"""The host's word id of start, end and padding."""


def read_prompt(clip: CLIP, prompt: str, where: str = "prompt") -> PromptWords:
    """The words of a prompt; raises ValueError for an embedding that is missing or of another width."""
    reader = _Reader(clip, where)
    rows = reader.rows(prompt)
    length = len(rows[0])
    tokens = [(row * length + i, *token) for row, tokens in enumerate(rows) for i, token in enumerate(tokens)]
    special = [position for position, _, _, word_id in tokens if word_id == NO_WORD]
    starts = tuple(range(0, len(rows) * length, length))
    return PromptWords(
        words=tuple(reader.words([token for token in tokens if token[3] != NO_WORD])),
        starts=starts,
        ends=tuple(position for position in special if position not in starts),
        rows=len(rows),
    )


def read_phrases(clip: CLIP, text: str) -> dict[str, tuple[PromptWord, ...]]:
    """Phrases separated by commas or new lines, each split as in a prompt."""
    phrases = [phrase.strip() for line in text.splitlines() for phrase in line.split(",")]
    return {phrase: read_prompt(clip, phrase, "words").words for phrase in phrases if phrase}


def encoded_texts(clip: CLIP, prompt: str) -> tuple[Tensor, ...]:
    """What cross-attention reads for a prompt, [1, N, D] each: one, or as many as the CLIP's hooks schedule."""
    return tuple(context for context, _ in clip.encode_from_tokens_scheduled(clip.tokenize(prompt), show_pbar=False))


Token = tuple[int, Any, float, int]
"""Position, vocabulary id or vector, weight, and the host's word id."""


@dataclass
class _Reader:
    """Both encoders of SDXL split alike; the first one is asked."""

    clip: CLIP
    where: str  # the input that is read
    names: list[str] = field(default_factory=list)  # of the embeddings, in the order in which they are met

    def rows(self, prompt: str) -> list[list[tuple[Any, float, int]]]:
        tokenizer = with_embeddings(self._host_tokenizer(), met=self.names)
        with naming(self.where):
            return tokenizer.tokenize_with_weights(
                prompt, return_word_ids=True, tokenizer_options=self.clip.tokenizer_options
            )

    def words(self, tokens: list[Token]) -> Iterator[PromptWord]:
        names = iter(self.names)
        for _, group in groupby(tokens, key=lambda token: token[3]):
            members = list(group)
            if isinstance(members[0][1], Tensor):
                yield self._embedding(next(names), members)
            else:
                yield from self._plain_words(members)

    def _embedding(self, name: str, tokens: list[Token]) -> PromptWord:
        keys: tuple[Hashable, ...] = tuple((name, number) for number in range(len(tokens)))
        return PromptWord(f"embedding:{name}", keys, tuple(position for position, *_ in tokens))

    def _plain_words(self, tokens: list[Token]) -> Iterator[PromptWord]:
        """A word's last token is marked in the vocabulary."""
        tokenizer = self._host_tokenizer()
        ids: list[int] = []
        positions: list[int] = []
        for number, (position, token, _, _) in enumerate(tokens):
            ids.append(token)
            positions.append(position)
            if tokenizer.inv_vocab[token].endswith("</w>") or number == len(tokens) - 1:
                yield PromptWord(tokenizer.decode(ids).strip(), tuple(ids), tuple(positions))
                ids, positions = [], []

    def _host_tokenizer(self) -> SDTokenizer:
        return getattr(self.clip.tokenizer, encoder_names(self.clip)[0])
