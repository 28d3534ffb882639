"""Answers of vision-language models, good and bad, become captions of one form, and stay what they became."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from core_personalization.core_ops.prompts.prompt_templates import validate_template
from core_personalization.nodes.captions.wording import WORD_BOUND, CaptionForm, instruction, repair, within_words
from core_personalization.nodes.captions.wording.vocabulary import BODY_PARTS, describes, words_of
from hypothesis import given
from hypothesis import strategies as st

ANSWERS = json.loads((Path(__file__).parent / "vlm_answers.json").read_text(encoding="utf-8"))


def form_of(answer: dict) -> CaptionForm:
    return CaptionForm(**{"super_category": "dog", **answer.get("form", {})})


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer["name"])
def test_a_recorded_answer_becomes_the_expected_caption(answer):
    caption = repair(answer["answer"], form_of(answer))
    assert caption.text == answer["caption"]
    assert list(caption.repairs) == answer["repairs"]
    assert caption.usable == answer["usable"]


@pytest.mark.parametrize("light", ("golden light", "soft light", "bright lights", "soft warm lighting"))
def test_light_stays_in_the_caption_since_it_is_not_the_subjects(light):
    caption = repair(f"a photo of a {{}} in a studio, {light}", CaptionForm("dog"))
    assert caption.text == f"a photo of a {{}} in a studio, {light}"
    assert (
        repair("a photo of a {}, light brown, in a studio", CaptionForm("dog")).text == "a photo of a {}, in a studio"
    )


def test_the_recorded_answers_are_many_and_most_are_bad():
    good = [answer for answer in ANSWERS if answer["usable"] and not answer["repairs"]]
    assert len(ANSWERS) >= 30
    assert len(good) >= 5
    assert len({answer["name"] for answer in ANSWERS}) == len(ANSWERS)


@pytest.mark.parametrize(
    "answer", [a for a in ANSWERS if a.get("form", {}).get("case", 3) != 4], ids=lambda a: a["name"]
)
def test_nothing_describes_the_subject_beside_it(answer):
    """By words alone, without the code under test: no adjective before {}, no looks of fur, paws or nose."""
    text = repair(answer["answer"], form_of(answer)).text
    assert not any(describes(word) for word in words_of(text.split("{}")[0]))
    words = words_of(text)
    looks = [word for word, following in pairwise(words) if following in {"fur", "paws", "nose"}]
    assert not any(map(describes, looks))


# Words that make trouble: the class, articles, joins, describing words and parts, syntax of prompts and of Markdown.
TROUBLE = """
a an the dog Dog dogs dog's bed it its is are has with and in on behind next to , . ! : ; sits sitting that which
brown fluffy old fur ears paws table ball red two another photo image painting of shows style art Sure Here's
caption: {} { } {2} ( ) (red:1.2) [x] < > <b> embedding:x embedding: **bold** # - > | \\ / " ' ` * _ <think>
</think> elefante el la una des und 犬 é 🐕 \u200b \u202e \ue000 1. 3.5 5, {}, {}. ({}) a_{} sorry, I'm
"""
WORDS = st.sampled_from([*TROUBLE.split(), "\n", "\t", "  "])
TEXTS = st.one_of(
    st.lists(WORDS, max_size=40).map(" ".join), st.lists(WORDS, max_size=12).map("".join), st.text(max_size=60)
)
FORMS = st.builds(
    CaptionForm,
    super_category=st.sampled_from(["dog", "teddy bear", "art"]),
    case=st.sampled_from([1, 2, 3, 4]),
    style=st.booleans(),
    start=st.sampled_from(["", "a {}", "an old drawing of {}", "{} art", "my {}, here"]),
)


@given(TEXTS, FORMS, st.integers(8, 60))
def test_every_text_becomes_a_caption_that_stays_what_it_is(text, form, words):
    def fits(caption: str) -> bool:
        return len(re.findall(r"\S+", caption)) <= words

    caption = repair(text, form, fits).text
    validate_template("caption", caption)
    assert fits(caption)
    assert not re.search(r"[\n\r\t()<>\[\]\\|\"`]|embedding|\{(?!\})", caption)
    assert caption.isprintable() and caption == caption.strip() and "  " not in caption
    assert repair(caption, form, fits).text == caption


@given(TEXTS)
def test_without_a_tokenizer_a_word_bound_is_kept(text):
    assert within_words(repair(text, CaptionForm("dog")).text)


def test_a_beginning_with_the_place_in_it_is_the_users_own():
    form = CaptionForm("dog")
    for typed in ("a {} in the snow", "{} in the snow", "a drawing of my {} in the snow"):
        assert repair(typed, form).text == typed


def test_the_class_is_not_written_beside_the_place():
    """CoRe puts [V] in the class's place; for AttnDreamBooth the training node itself writes "[V] dog"."""
    assert repair("a photo of a {} dog on a rug", CaptionForm("dog")).text == "a photo of a {} on a rug"
    assert repair("a photo of a {} teddy bear, sitting", CaptionForm("teddy bear")).text == "a photo of a {}, sitting"


def test_a_long_caption_is_shortened_at_a_clause_and_says_so():
    long = "a photo of a {} on a rug, next to a red ball, under a lamp"
    caption = repair(long, CaptionForm("dog"), lambda text: len(text.split()) <= 12)
    assert caption.text == "a photo of a {} on a rug, next to a red ball"[: len(caption.text)]
    assert long.startswith(caption.text) and long[len(caption.text)] in " ,"
    assert any(note.startswith("shortened") for note in caption.repairs)


def test_an_opening_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="start:"):
        repair("a dog", CaptionForm("dog", start="a very long start of a {}"), lambda text: len(text.split()) < 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"super_category": ""}, "super_category"),
        ({"super_category": "(dog:1.2)"}, "super_category"),
        ({"super_category": "dog", "start": "a photo"}, "start.*0 times"),
        ({"super_category": "dog", "start": "a {} and {}"}, "start.*2 times"),
        ({"super_category": "dog", "start": "a (photo:1.2) of {}"}, "start.*plain words"),
        ({"super_category": "dog", "start": "a {} : x"}, "start.*plain words"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CaptionForm(**settings)


def test_the_instruction_asks_for_what_the_case_wants():
    """Appendix C.1's three parts: one sentence, its start given, the subject not described."""
    selective, everything = instruction(CaptionForm("dog")), instruction(CaptionForm("dog", 4))
    for wanted in ("in one sentence in detail", '"A photo of a dog"', "background", "nearby", "tied", "pose"):
        assert wanted in selective
    assert "Do not describe the dog itself" in selective and "Do not describe" not in everything
    assert "plain noun only" in instruction(CaptionForm("dog", 2))
    assert "facial expression" not in selective
    assert "facial expression" in instruction(CaptionForm("dog", expression=True))
    style = instruction(CaptionForm("art", style=True))
    assert '"A painting in the style of art"' in style and "Do not describe the style" in style
    assert '"A photo of an elephant"' in instruction(CaptionForm("elephant"))


def test_what_the_repair_asks_of_words_is_consistent():
    assert not {"sitting", "ball", "table", "snow"} & BODY_PARTS
    assert describes("long-haired") and describes("black-and-white") and not describes("ball")
    assert within_words("word " * WORD_BOUND) and not within_words("word " * (WORD_BOUND + 1))
