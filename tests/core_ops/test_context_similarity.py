from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from core_personalization.core_ops.conditioning import TextConditioning
from core_personalization.core_ops.prompts.prompt_words import PromptWord, PromptWords
from core_personalization.core_ops.prompts.token_rows import AlignedPair, ConceptSlot
from core_personalization.core_ops.scores.token_similarity import context_labels, context_similarities

from .toy_models import BIG, DOG, LENGTH, WIDTH, ToyTextEncoder, pair, row


def random_text(seed: int, encoders: tuple[str, ...] = ("toy",)) -> TextConditioning:
    generator = torch.Generator().manual_seed(seed)
    outputs = {name: torch.randn(1, LENGTH, WIDTH, generator=generator) for name in encoders}
    return TextConditioning(outputs, torch.cat(list(outputs.values()), dim=-1))


def test_tokens_meet_their_partners_behind_spans_of_any_length():
    aligned = pair([3, 4], [5, 6], vectors=3, category=[BIG, DOG])
    a, b = random_text(0), random_text(1)
    expected = [
        float(torch.dot(x, y) / (x.norm() * y.norm()))
        for x, y in (
            (a.outputs["toy"][0, i], b.outputs["toy"][0, j])
            for i, j in zip((0, 1, 2, 6, 7, 8), (0, 1, 2, 5, 6, 7), strict=True)
        )
    ]
    assert context_similarities(a, b, aligned).tolist() == pytest.approx(expected, abs=1e-6)


def test_similarity_is_one_for_the_same_prompt_of_any_norm():
    encoder = ToyTextEncoder()
    dog = row(3, DOG, 4, span=range(1, 2))
    text = encoder.encode([dog], {})
    twice = replace(text, outputs={"toy": 2 * text.outputs["toy"]})
    for other in (text, twice):
        assert context_similarities(text, other, AlignedPair(dog, dog)).tolist() == pytest.approx([1.0] * 4)


def test_two_encoders_are_averaged():
    aligned = pair([3], [4])
    a, b = random_text(0, ("x", "y")), random_text(1, ("x", "y"))
    alone = [
        context_similarities(replace(a, outputs={n: a.outputs[n]}), replace(b, outputs={n: b.outputs[n]}), aligned)
        for n in ("x", "y")
    ]
    torch.testing.assert_close(context_similarities(a, b, aligned), torch.stack(alone).mean(0))


def test_several_spans_are_left_out():
    with_two = replace(row(3, ConceptSlot(0), 4, ConceptSlot(1), 5, span=range(1, 2)), other_spans=(range(4, 5),))
    assert with_two.context == (0, 1, 3, 5, 6)
    reference = replace(row(3, DOG, BIG, 4, DOG, 5, span=range(1, 3)), other_spans=(range(5, 6),))
    aligned = AlignedPair(with_two, reference)
    assert [positions.tolist() for positions in aligned.positions()] == [[0, 1, 3, 5, 6], [0, 1, 4, 6, 7]]


def test_every_context_token_has_a_label():
    words = (PromptWord("a", (3,), (1,)), PromptWord("dog", (7,), (2,)), PromptWord("jungle", (4, 5), (3, 4)))
    prompt = PromptWords(words, starts=(0,), ends=(5, 6, 7, 8, 9), rows=1)
    labels = context_labels(prompt, row(3, DOG, 4, 5, span=range(1, 2)))
    assert labels == ["(start of text)", "a", "jungle·1", "jungle·2", "(end of text)"]
