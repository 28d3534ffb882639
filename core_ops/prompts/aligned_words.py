"""Prompts that differ in a word or two, word below word."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher


def aligned(prompts: Sequence[Sequence[str]]) -> list[list[int | None]]:
    """Columns of the prompts' words: in each, per prompt the word's number, or None where it has none there.

    Equal words share a column; what stands in their place, such as "dog" and "my-dog", shares one, too. Every word of
    every prompt is in one column, in its order.
    """
    columns: list[list[int | None]] = []
    names: list[str] = []
    for row, words in enumerate(prompts):
        grown: list[list[int | None]] = []
        called: list[str] = []
        for _, left, right, start, end in SequenceMatcher(None, names, list(words), autojunk=False).get_opcodes():
            for offset in range(max(right - left, end - start)):
                old, new = left + offset < right, start + offset < end
                above = columns[left + offset] if old else [None] * row
                grown.append([*above, start + offset if new else None])
                called.append(names[left + offset] if old else words[start + offset])
        columns, names = grown, called
    return columns
