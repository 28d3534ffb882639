"""The words of a prompt, and where their tokens stand in its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..quoting import quoted, shortened

START, END = "(start of text)", "(end and padding)"


def listed(text: str) -> list[str]:
    """What a text lists, separated by commas or new lines: names, words, phrases."""
    return [entry.strip() for line in text.splitlines() for entry in line.split(",") if entry.strip()]


@dataclass(frozen=True)
class PromptWord:
    """A word, or an embedding with all its vectors.

    keys: what two equal words share: vocabulary ids, or an embedding's name with the number of each vector.
    positions: of its tokens, counted through all rows.
    """

    label: str
    keys: tuple[Hashable, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class PromptWords:
    """A prompt of `rows` token rows. starts: positions of start-of-text; ends: of end-of-text and padding."""

    words: tuple[PromptWord, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    rows: int

    @property
    def length(self) -> int:
        """Tokens of all rows together."""
        return len(self.starts) + len(self.ends) + sum(len(word.positions) for word in self.words)


@dataclass(frozen=True)
class WatchedWord:
    """Tokens whose attention is added up to one map. in_prompt: not start, end or padding."""

    label: str
    positions: tuple[int, ...]
    in_prompt: bool = True


def watch_everything(prompt: PromptWords) -> tuple[WatchedWord, ...]:
    """Start of text, each word in its order, and end with padding: together every token."""
    words = _numbered((word.label, word.positions) for word in prompt.words)
    return (WatchedWord(START, prompt.starts, False), *words, WatchedWord(END, prompt.ends, False))


def watch_phrases(prompt: PromptWords, phrases: Mapping[str, Sequence[PromptWord]]) -> tuple[WatchedWord, ...]:
    """Every occurrence of each phrase, given as the tokenizer splits it; ValueError for one that is not there."""
    found = [(phrase, place) for phrase, words in phrases.items() for place in _occurrences(prompt, phrase, words)]
    owner: dict[int, str] = {}
    for phrase, positions in found:
        other = next((owner[position] for position in positions if position in owner), None)
        if other is not None:
            raise ValueError(
                f"words: {quoted(other)} and {quoted(phrase)} share a token; name one of them, or watch the other "
                "with a second probe on this one's model."
            )
        owner.update(dict.fromkeys(positions, phrase))
    return tuple(_numbered(found))


def token_weights(words: Sequence[WatchedWord], keys: int, period: int, start: int = 0) -> Tensor:
    """Which of `keys` attention keys make up each word, [keys, words], 0 or 1.

    start: of the prompt in its context. period: length of that context, which a batch with a longer one repeats.
    """
    weights = torch.zeros(keys, len(words))
    for column, word in enumerate(words):
        for position in word.positions:
            weights[start + position :: period, column] = 1
    return weights


def _occurrences(prompt: PromptWords, phrase: str, words: Sequence[PromptWord]) -> list[tuple[int, ...]]:
    """Positions of each place where the phrase stands, none of which overlap; ValueError when there is none."""
    wanted = [word.keys for word in words]
    starts = range(len(prompt.words) - len(wanted) + 1) if wanted else ()
    matches = [i for i in starts if [word.keys for word in prompt.words[i : i + len(wanted)]] == wanted]
    if not matches:  # an embedding may be called by its bare name, which splits like any words
        matches = [i for i, word in enumerate(prompt.words) if word.label == f"embedding:{phrase}"]
        wanted = wanted[:1]
    if not matches:
        there = ", ".join(dict.fromkeys(word.label for word in prompt.words)) or "none"
        raise ValueError(
            f"words: {quoted(phrase)} is not in the prompt. The words that are: {shortened(there)}. Write one of those."
        )
    found: list[tuple[int, ...]] = []
    end = 0
    for i in matches:
        if i >= end:  # "a a a" has "a a" once
            found.append(tuple(p for word in prompt.words[i : i + len(wanted)] for p in word.positions))
            end = i + len(wanted)
    return found


def _numbered(words: Iterable[tuple[str, tuple[int, ...]]]) -> list[WatchedWord]:
    """A second "dog" is called "dog (2)"."""
    seen: Counter[str] = Counter()
    numbered = []
    for label, positions in words:
        seen[label] += 1
        numbered.append(WatchedWord(label if seen[label] == 1 else f"{label} ({seen[label]})", positions))
    return numbered
