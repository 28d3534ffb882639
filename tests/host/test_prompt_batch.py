"""The node "Evaluation Prompts"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from core_personalization.core_ops.prompts.prompt_templates import prompt_set
from core_personalization.core_ops.scores import with_category


def execute(concept: Any = None, **inputs: Any) -> tuple[list[str], list[str], list[int]]:
    from core_personalization.nodes.evaluation.prompt_batch import EvaluationPrompts

    return EvaluationPrompts.execute(concept, **inputs).args[:3]


def sampling(**inputs: Any) -> tuple[int, float, str]:
    from core_personalization.nodes.evaluation.prompt_batch import EvaluationPrompts

    return EvaluationPrompts.execute(None, concept_text="x", **inputs).args[3:]


def protocols() -> dict[str, dict[str, Any]]:
    """What the editor fills in when a protocol is chosen."""
    from core_personalization.nodes.evaluation.prompt_batch import EvaluationPrompts

    declared = {each.id: each.as_dict() for each in EvaluationPrompts.GET_SCHEMA().inputs}
    return declared["protocol"]["fills"]


def concept(with_category: bool = False):
    from core_personalization.nodes.concept import Concept

    return Concept("my-cat", "tabby cat", {}, Path("my-cat.safetensors"), with_category)


@pytest.mark.parametrize("kind", ("animate", "inanimate"))
def test_the_papers_twenty_prompts_each_with_every_seed(kind):
    prompts, plain, seeds = execute(concept(), prompt_set=kind, seeds_per_prompt=3, seed=7)
    templates = prompt_set(f"evaluation_{kind}")
    assert len(templates) == 20
    assert prompts[::3] == [template.replace("{}", "embedding:my-cat") for template in templates]
    assert plain[::3] == [template.replace("{}", "tabby cat") for template in templates]
    assert seeds == [7, 8, 9] * 20
    assert len(set(zip(prompts, seeds, strict=True))) == len(prompts) == len(plain) == 60


def test_ones_own_prompts_and_a_concept_of_attndreambooth():
    own = "# mine\na {} on the moon\n\n(a {} :1.2) in the rain"
    prompts, plain, seeds = execute(concept(True), prompt_set="own", own_prompts=own, seeds_per_prompt=1)
    assert prompts == ["a embedding:my-cat tabby cat on the moon", "(a embedding:my-cat tabby cat :1.2) in the rain"]
    assert plain == ["a tabby cat on the moon", "(a tabby cat :1.2) in the rain"]
    assert seeds == [0, 0]


def test_a_text_stands_for_a_concept_that_is_not_connected():
    prompts, plain, _ = execute(None, prompt_set="own", own_prompts="a {} , asleep", concept_text="sks dog")
    assert set(prompts) == {"a sks dog , asleep"}
    assert set(plain) == {"a, asleep"}
    _, plain, _ = execute(concept(), prompt_set="own", own_prompts="a {} asleep", super_category="dog")
    assert set(plain) == {"a dog asleep"}


def test_the_scorecard_reads_the_texts_of_the_plain_prompts():
    for learned in (concept(), concept(True)):
        prompts, plain, _ = execute(learned, seeds_per_prompt=1)
        assert [with_category(prompt, "", "tabby cat") for prompt in prompts] == plain


@pytest.mark.parametrize(
    ("paper", "pictures", "steps", "guidance"),
    (("CoRe", 32, 25, 7.0), ("AttnDreamBooth", 32, 25, 7.0), ("SID", 20, 50, 7.5)),
)
def test_a_papers_numbers_come_out(paper, pictures, steps, guidance):
    given = {"protocol": paper, **protocols()[paper]}
    prompts, _, seeds = execute(concept(), **given)
    assert len(prompts) == len(seeds) == 20 * pictures
    assert sampling(**given)[:2] == (steps, guidance)


def test_the_node_says_what_the_paper_takes_and_what_is_other_here():
    _, _, about = sampling(protocol="SID", **protocols()["SID"])
    drawn, paper, note = about.split("\n")
    assert drawn == "400 pictures: 20 prompts, 20 of each, 50 steps, guidance 7.5."
    assert "25 prompts, 20 of each, drawn with Stable Diffusion 2.1 base, sampler ddim" in paper
    assert note.startswith("Note: these are 20 prompts and not the paper's 25")
    own = "\n".join(f"a {{}} beside {number} trees" for number in range(25))
    *_, about = sampling(protocol="SID", prompt_set="own", own_prompts=own, **protocols()["SID"])
    assert "Note" not in about and about.startswith("500 pictures")
    assert len(sampling()[2].splitlines()) == 1


def test_complex_prompts_are_a_set_of_their_own():
    for kind in ("complex animate", "complex inanimate"):
        prompts, plain, _ = execute(concept(), prompt_set=kind, seeds_per_prompt=1)
        assert len(set(prompts)) == 20 and all("embedding:my-cat" in prompt for prompt in prompts)
        assert all("tabby cat" in prompt for prompt in plain)


@pytest.mark.parametrize(
    ("inputs", "message"),
    (
        ({"concept_text": " "}, "concept: got none"),
        ({"concept_text": "x", "prompt_set": "own", "own_prompts": "a cat"}, r"own_prompts: line 1.*\{\} 0 times"),
        ({"concept_text": "x", "prompt_set": "own", "own_prompts": "\n"}, "own_prompts: there is no prompt"),
        ({"concept_text": "x", "prompt_set": "all"}, "prompt_set: 'all' is not one of"),
        ({"concept_text": "x", "seeds_per_prompt": 0}, "seeds_per_prompt: 0 is out of range"),
    ),
)
def test_bad_input_is_refused_with_its_name(inputs, message):
    with pytest.raises(ValueError, match=message):
        execute(None, **inputs)
