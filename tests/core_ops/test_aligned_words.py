"""Prompts word below word."""

from __future__ import annotations

import pytest
from core_personalization.core_ops.prompts.aligned_words import aligned
from hypothesis import given
from hypothesis import strategies as st

words = st.lists(st.sampled_from(["a", "dog", "cat", "on", "the", "beach", "my-dog"]), max_size=6)


def shown(*prompts: str) -> list[list[str]]:
    """By prompt its words in their columns, - where it has none."""
    split = [prompt.split() for prompt in prompts]
    columns = aligned(split)
    return [
        ["-" if column[row] is None else split[row][column[row]] for column in columns]  # type: ignore[index]
        for row in range(len(split))
    ]


@pytest.mark.parametrize(
    "rows",
    (
        ["a dog in sand", "a puppy in sand", "a my-dog in sand"],
        ["a - dog in sand", "a my dog in sand"],
        ["a my dog in sand", "a - dog in sand", "a tabby cat in sand"],
        ["a dog - in sand", "a big bear in sand"],
        ["a dog in sand", "- - - -"],
    ),
)
def test_equal_words_share_a_column_and_what_replaces_them_too(rows):
    prompts = [" ".join(word for word in row.split() if word != "-") for row in rows]
    assert shown(*prompts) == [row.split() for row in rows]


@given(st.lists(words, min_size=1, max_size=4))
def test_every_word_of_every_prompt_is_in_one_column_in_its_order(prompts):
    columns = aligned(prompts)
    assert all(len(column) == len(prompts) and any(word is not None for word in column) for column in columns)
    for row, prompt in enumerate(prompts):
        assert [column[row] for column in columns if column[row] is not None] == list(range(len(prompt)))


def test_a_prompt_beside_itself_is_itself():
    assert aligned([["a", "dog"], ["a", "dog"]]) == [[0, 0], [1, 1]]
