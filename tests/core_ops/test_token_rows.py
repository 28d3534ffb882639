from __future__ import annotations

import pytest
from core_personalization.core_ops.prompts.token_rows import AlignedPair, ConceptSlot, span_weights

from .toy_models import BIG, DOG, pair, row


def test_context_is_start_to_first_end_without_the_span():
    concept = row(3, ConceptSlot(0), 4, span=range(1, 2))
    assert concept.context == (0, 1, 3, 4)


@pytest.mark.parametrize(("vectors", "category"), [(1, [DOG]), (3, [DOG]), (1, [BIG, DOG]), (2, [BIG, DOG, DOG])])
def test_spans_of_different_length_still_align(vectors, category):
    aligned = pair([3, 4], [5, 6], vectors, category)
    context, reference = aligned.positions()
    assert len(context) == len(reference) == 6
    ids = ([aligned.concept.tokens["toy"][i] for i in context], [aligned.reference.tokens["toy"][i] for i in reference])
    assert ids[0] == ids[1]


def test_rows_that_differ_around_the_span_are_refused():
    with pytest.raises(ValueError, match="super_category"):
        AlignedPair(row(3, ConceptSlot(0), 4, span=range(1, 2)), row(3, DOG, 5, span=range(1, 2)))


def test_a_span_counts_with_the_mean_of_its_tokens():
    weights = span_weights([range(1, 2), range(2, 5)], length=6)
    third = pytest.approx(1 / 3)
    assert weights.tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, third, third, third, 0]]
