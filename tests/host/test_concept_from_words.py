"""The node "Concept from Words": words of the model wherever a learned concept goes."""

from __future__ import annotations

import re

import pytest
import torch


def from_words(clip, words="sks", super_category="dog", with_category=True):
    from core_personalization.nodes.sharing.concept_from_words import ConceptFromWords

    return ConceptFromWords.execute(clip, words, super_category, with_category).args


@pytest.mark.parametrize("words", ["sks", "blue ktn"])
def test_training_encodes_it_as_core_encodes_the_words(family, words):
    from core_personalization.nodes.host.models.module_copy import autograd_mode
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder, host_outputs
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    _, clip, _ = family
    concept, prompt = from_words(clip, words)
    assert prompt == concept.phrase == f"{words} dog"
    rows = PromptRows(clip, "dog", concept.length)
    with autograd_mode(), torch.no_grad():
        ours = HostTextEncoder(clip).encode([rows.concept(concept.caption("a photo of a {}"))], concept.vectors)
    plain = host_outputs(clip, rows.text(f"a photo of a {words} dog"))
    torch.testing.assert_close(ours.context.cpu(), plain.context, atol=1e-5, rtol=1e-4)


def test_only_the_words_give_way_to_a_refined_concept_not_the_same_ones_in_its_category(sd1):
    from core_personalization.nodes.prompt_concepts import PromptConcepts

    concept, _ = from_words(sd1[1], "cat", "cat toy")
    assert PromptConcepts([concept], [True]).fillings[0].endswith(" cat toy")


def test_without_its_category_the_words_stand_alone(sd1):
    concept, prompt = from_words(sd1[1], " corgi ", with_category=False)
    assert (prompt, concept.caption("a {}")) == ("corgi", "a {}")


@pytest.mark.parametrize(
    "given, part",
    [
        ({"words": " "}, "words: it is empty"),
        ({"words": "embedding:my-cat"}, "words: 'embedding:my-cat' is more than plain words"),
        ({"words": "a {}"}, "words: 'a {}' is more"),
        ({"super_category": ""}, "super_category: it is empty"),
    ],
)
def test_what_cannot_be_words_is_refused_before_anything_is_loaded(sd1, given, part):
    from core_personalization.nodes.sharing.concept_from_words import ConceptFromWords

    with pytest.raises(ValueError, match=re.escape(part)):
        ConceptFromWords.validate_inputs(**{"words": "sks", "super_category": "dog", **given})
    with pytest.raises(ValueError, match=part.split(" is ")[0]):
        from_words(sd1[1], **given)


def test_save_concept_says_that_there_is_no_embedding(sd1):
    from core_personalization.nodes.sharing.save_concept import SaveConcept

    with pytest.raises(ValueError, match=r"'sks' are words of the model.*'sks dog' calls it"):
        SaveConcept.execute(from_words(sd1[1])[0], "from-words", overwrite=False, description="")
