"""What the prompt files promise to a user who copies them, and what the reader says of a bad one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from core_personalization.core_ops.prompts import prompt_templates
from core_personalization.core_ops.prompts.prompt_templates import (
    EVALUATION_SETS,
    PROMPT_SETS,
    fill,
    parse_templates,
    prompt_set,
    template_with_category,
)

SHARED_TYPES = ["background", "colour", "artistic style", "style composition"]
WITH_ACTIONS = [*SHARED_TYPES, "action", "outfit"]
TYPES = {
    **{"animate": WITH_ACTIONS, "inanimate": SHARED_TYPES, "person": WITH_ACTIONS, "universal": SHARED_TYPES},
    "style": ["people", "animals", "things", "places"],
}


def templates_by_type(name: str) -> dict[str, list[str]]:
    """The file's templates below each of its one-line headings; the introduction's comments are none."""
    _, *parts = re.split(r"^# ([a-z ]+)$", file_text(name), flags=re.MULTILINE)
    return {kind: body.split("\n") for kind, body in zip(parts[::2], parts[1::2], strict=True)}


def file_text(name: str) -> str:
    return (Path(prompt_templates.__file__).parent / "prompt_sets" / f"{name}.txt").read_text(encoding="utf-8")


def words(template: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z{}]+", template.lower()))


def most_clip_tokens(prompt: str) -> int:
    """Two for every word and punctuation mark and the two ends: more than CLIP needs for everyday words."""
    return 2 * len(re.findall(r"\w+|[^\w\s]", prompt)) + 2


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_a_hundred_templates_none_of_them_for_evaluation(name):
    templates = [words(template) for template in prompt_set(name)]
    evaluation = {words(template) for other in EVALUATION_SETS for template in prompt_set(other)}
    assert len(set(templates)) == len(templates) == 100
    assert not evaluation & set(templates)


def test_twenty_evaluation_prompts_each():
    assert [len(set(prompt_set(name))) for name in EVALUATION_SETS] == [20] * 6


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_each_type_of_the_paper_has_prompts_each_prompt_a_type(name):
    grouped = {kind: [line for line in body if line] for kind, body in templates_by_type(name).items()}
    assert list(grouped) == TYPES[name]
    assert min(len(templates) for templates in grouped.values()) >= 10
    assert tuple(template for templates in grouped.values() for template in templates) == prompt_set(name)


@pytest.mark.parametrize("name", PROMPT_SETS + EVALUATION_SETS)
def test_a_concept_of_many_vectors_still_fits_a_row_of_77(name):
    vectors = 8
    assert max(most_clip_tokens(template.replace("{}", "")) for template in prompt_set(name)) + vectors <= 77


@pytest.mark.parametrize("name", PROMPT_SETS)
@pytest.mark.parametrize("word", ["dog", "backpack"])
def test_articles_fit_the_word_that_follows(name, word):
    """Words are spelled here without a silent h or a sounded 'u', so the letter decides."""
    for template in prompt_set(name):
        pairs = re.findall(r"\b(an?) (\w)", template.replace("{}", word))
        assert all((article == "an") == (letter in "aeiou") for article, letter in pairs), template


def test_evaluation_files_name_their_source():
    for name in ("evaluation_animate", "evaluation_inanimate"):
        assert re.match(r"# Wu et al\. 2024, CoRe .*Table 4", file_text(name))
    for name in ("evaluation_complex_animate", "evaluation_complex_inanimate"):
        assert re.search(r"# Wu et al\. 2024, CoRe .*igures", file_text(name))
    assert file_text("evaluation_person").startswith("# Evaluation prompts for people, of this project")


TOUCHING = ["{}", "a {}, asleep", "a (red {}:1.2) asleep", "a ({}) asleep", "a (red {}) {x}", "the {}'s house", "{{}}"]


@pytest.mark.parametrize("line", TOUCHING)
def test_anything_may_touch_the_concept(line):
    assert parse_templates(line) == (line,)


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("a {}, asleep", "a X, asleep"),
        ("a {},asleep", "a X ,asleep"),
        ("1girl,{},solo", "1girl, X ,solo"),
        ("the {}'s house", "the X 's house"),
        ('"{}".', '" X ".'),
        ("(red {}:1.2)", "(red X :1.2)"),
        ("{}{", "X {"),
        ("a {}\n", "a X\n"),
    ],
)
def test_the_concept_stands_between_spaces_whatever_touches_it(template, prompt):
    assert fill(template, ["X"]) == prompt
    assert template_with_category(template, "dog").replace("{}", "X") == prompt.replace("X", "X dog")


def test_comments_and_empty_lines_are_no_templates():
    text = "# background\n\n  a {} in the jungle \r\n\t\n  # colour\n{} seen from the top\na red {}\n"
    assert parse_templates(text) == ("a {} in the jungle", "{} seen from the top", "a red {}")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("a dog", "0 times; write it once"),
        ("a {} and a {}", "2 times; write it once"),
        ("a {}{}", "2 times"),
        ("a embedding:{} asleep", "has embedding: before {}, which writes it; leave it out"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_the_remedy(line, complaint):
    with pytest.raises(ValueError) as raised:
        parse_templates(f"# mine\n\na {{}} in the jungle\n{line}\n")
    assert f"line 4: {line!r}" in str(raised.value)
    assert complaint in str(raised.value)


@pytest.mark.parametrize("text", ["", "\n \n", "# a {} in the jungle\n"])
def test_a_text_without_templates_is_refused(text):
    with pytest.raises(ValueError, match="no prompt; write one per line"):
        parse_templates(text)


@pytest.mark.parametrize("name", ["", "own", "Animate", "../prompt_sets/animate"])
def test_an_unknown_set_is_refused_with_the_choice(name):
    with pytest.raises(ValueError, match="animate, inanimate"):
        prompt_set(name)
