"""Captions of other trainers: the concept's words become {}, and nothing of them is left."""

from __future__ import annotations

import re

import pytest
from core_personalization.core_ops.prompts.concept_words import USUAL, parse_words, with_place
from core_personalization.core_ops.prompts.prompt_templates import validate_template
from hypothesis import given
from hypothesis import strategies as st

CASES = [
    ("photo of sks dog in the snow", USUAL, "dog", "photo of {} in the snow"),
    ("photo of sks dog in the snow", USUAL, "", "photo of {} dog in the snow"),
    ("photo of sks dog in the snow", "sks dog", "", "photo of {} in the snow"),
    ("photo of sks dog in the snow", "sks, sks dog", "", "photo of {} in the snow"),
    ("a photo of ohwx man, office", USUAL, "man", "a photo of {}, office"),
    ("[trigger], on a wooden floor", USUAL, "dog", "{}, on a wooden floor"),
    ("[trigger], on a wooden floor", "trigger", "dog", "{}, on a wooden floor"),
    ("TOK, a person in a park", USUAL, "person", "{} in a park"),
    ("sks_dog, outdoors", USUAL, "dog", "{}, outdoors"),
    ("a sks-dog in the snow", USUAL, "", "a {} dog in the snow"),
    ("in the style of <s1><s2>", "<s1><s2>", "", "in the style of {}"),
    ("a <cat-toy> on a rug", "cat toy", "", "a {} on a rug"),
    ("(SKS Dog:1.2), best", USUAL, "dog", "({}:1.2), best"),
    ("sks dog's bowl", USUAL, "dog", "{} 's bowl"),
    ('"TOK".', USUAL, "", '" {} ".'),
    ("1girl,sks,solo", USUAL, "", "1girl, {},solo"),
    ("a {} dog\nby a lake", "", "dog", "a {} by a lake"),
]


@pytest.mark.parametrize(("caption", "words", "category", "right"), CASES)
def test_words_that_stand_for_the_concept_become_its_place(caption, words, category, right):
    assert with_place(caption, parse_words(words), category) == (right, 1)
    validate_template("caption", right)


@pytest.mark.parametrize("caption", ["", "a token of love", "the sksy dog", "ohwxes"])
def test_a_caption_without_them_stays_and_is_told_apart(caption):
    assert with_place(caption, parse_words(USUAL), "dog") == (caption, 0)


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("sks dog, outdoors, sks dog, snow", "{}, outdoors, snow"),
        ("sks dog by the bowl of the sks dog", "{} by the bowl of it"),
        ("sks dog near sks dog's bowl", "{} near its bowl"),
        ("sks dog sks dog in the snow", "{} in the snow"),
        ("{} in the snow, sks dog", "{} in the snow"),
        ("sks dog dog, a dog in the snow, sks dog dog", "{} in the snow"),
    ],
)
def test_of_several_places_the_first_is_kept(caption, right):
    assert with_place(caption, parse_words(USUAL), "dog") == (right, 2)


PARTS = ["photo", "of", ",", ".", "sks", "dog", "TOK", "[trigger]", "<x>", "{}", "(a:1.1)", "_", "-", "'", "雪", "\n"]


@given(st.lists(st.sampled_from(PARTS)), st.sampled_from(["", "dog", "teddy bear"]))
def test_whatever_the_caption_it_has_the_place_once_and_no_word_is_left(parts, category):
    words = parse_words("sks, TOK, [trigger], <x>")
    placed, count = with_place(" ".join(parts), words, category)
    assert placed.count("{}") == min(count, 1)
    assert not re.search(r"\b(sks|tok|trigger)\b|<x>|\n", placed, re.IGNORECASE)
    if count:
        validate_template("caption", placed)
        assert with_place(placed, words, category) == (placed, 1)


@given(st.text(), st.text(), st.text())
def test_no_text_is_too_strange(caption, words, category):
    placed, count = with_place(caption, parse_words(words), category)
    assert placed.count("{}") == min(count, 1)
