from __future__ import annotations

import re

import pytest
from core_personalization.core_ops.prompt_sets import (
    EVALUATION_SETS,
    PROMPT_SETS,
    parse_templates,
    prompt_set,
)


def words(template: str) -> list[str]:
    return re.findall(r"[a-z{}]+", template.lower())


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_a_hundred_different_templates_none_of_them_for_evaluation(name):
    templates = [tuple(words(template)) for template in prompt_set(name)]
    evaluation = {tuple(words(template)) for other in EVALUATION_SETS for template in prompt_set(other)}
    assert len(set(templates)) == len(templates) == 100
    assert not evaluation & set(templates)


@pytest.mark.parametrize("name", PROMPT_SETS + EVALUATION_SETS)
def test_the_concept_stands_alone_and_the_prompt_fits_a_row(name):
    for template in prompt_set(name):
        assert re.fullmatch(r"(.*\s)?\{\}(\s.*)?", template), template
        assert len(template.split()) <= 25


def test_twenty_evaluation_prompts_each():
    assert [len(prompt_set(name)) for name in EVALUATION_SETS] == [20, 20]


@pytest.mark.parametrize("text", ["", "# only a comment\n\n", "a dog", "a {} and a {}"])
def test_what_is_no_set_of_templates_is_refused(text):
    with pytest.raises(ValueError, match="own_prompts"):
        parse_templates(text)
