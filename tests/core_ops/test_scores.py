"""The scorecard's mathematics: properties, values worked by hand, and numpy as oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from core_personalization.core_ops import scores
from core_personalization.core_ops.prompts.prompt_templates import EVALUATION_SETS, prompt_set
from core_personalization.core_ops.scores import bootstrap
from hypothesis import given
from hypothesis import strategies as st

SET_SCORES = (
    *(scores.clip_i, scores.dino, scores.style, scores.face),
    *(scores.subject_alignment, scores.non_subject_disentanglement),
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Similarities


@pytest.mark.parametrize("score", SET_SCORES)
def test_a_set_score_is_the_mean_cosine_over_all_pairs(score):
    pictures, references = random(5, 8).numpy(), random(3, 8, seed=1).numpy()
    pairs = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in references] for a in pictures]
    expected = np.mean(pairs, axis=1)
    if score is scores.non_subject_disentanglement:
        expected = 1 - expected
    found = score(torch.from_numpy(pictures), torch.from_numpy(references))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("score", (scores.clip_t, scores.text_alignment))
def test_a_text_score_compares_each_picture_with_its_own_prompt(score):
    pictures = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    prompts = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert score(pictures, prompts).tolist() == pytest.approx([1, 0, math.sqrt(0.5)])


def test_a_picture_without_a_face_scores_nothing_and_a_reference_without_is_left_out():
    pictures, references, gap = random(3, 8), random(4, 8, seed=1), torch.full((1, 8), torch.nan)
    with_gaps = scores.face(torch.cat([pictures[:1], gap, pictures[1:]]), torch.cat([references, gap]))
    assert bool(with_gaps[1].isnan())
    assert with_gaps[[0, 2, 3]].tolist() == scores.face(pictures, references).tolist()
    assert bool(scores.face(pictures, gap).isnan().all())


@pytest.mark.parametrize("score", SET_SCORES[:-1])
def test_a_picture_against_itself_scores_one(score):
    one = random(1, 16)
    assert score(one, one).tolist() == pytest.approx([1.0])
    assert score(one.expand(3, -1), 7 * one.expand(2, -1)).tolist() == pytest.approx([1.0] * 3)


def test_a_picture_of_nothing_but_surroundings_scores_zero_nsd():
    one = random(1, 16)
    assert scores.non_subject_disentanglement(one, one).tolist() == pytest.approx([0.0])
    assert scores.non_subject_disentanglement(one, -one).tolist() == pytest.approx([2.0])


@pytest.mark.parametrize("score", SET_SCORES)
def test_references_in_any_order_pictures_in_their_own(score):
    pictures, references = random(6, 8), random(4, 8, seed=1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = score(pictures, references)
    torch.testing.assert_close(score(pictures[order], references.flip(0)), expected[order])


# Segments


def test_the_subject_is_cut_out_and_centred_on_a_square():
    picture, mask = torch.full((3, 6, 8), 0.5), torch.zeros(6, 8)
    mask[1:3, 2:8] = 1  # 6 wide, 2 high
    segment = scores.subject_segment(picture, mask)
    assert segment.shape == (3, 6, 6)
    assert segment[0].sum(dim=1).tolist() == [0, 0, 3, 3, 0, 0]


def test_foreground_and_surroundings_add_up_to_the_picture():
    picture, mask = random(3, 9, 7).sigmoid(), random(9, 7, seed=1).sigmoid()
    parts = scores.foreground(picture, mask) + scores.non_subject_segment(picture, mask)
    torch.testing.assert_close(parts, picture)


@given(top=st.integers(0, 4), left=st.integers(0, 4), height=st.integers(1, 5), width=st.integers(1, 5))
def test_where_the_subject_was_does_not_show_in_its_segment(top, left, height, width):
    subject = torch.arange(1, 3 * height * width + 1).view(3, height, width) / 100
    picture, mask = torch.zeros(3, 9, 9), torch.zeros(9, 9)
    picture[:, top : top + height, left : left + width] = subject
    mask[top : top + height, left : left + width] = 1
    segment = scores.subject_segment(picture, mask)
    assert segment.shape == (3, max(height, width), max(height, width))
    above, before = (segment.shape[1] - height) // 2, (segment.shape[2] - width) // 2
    torch.testing.assert_close(segment[:, above : above + height, before : before + width], subject)
    assert segment.sum().item() == pytest.approx(subject.sum().item(), rel=1e-5)


def test_a_mask_without_a_subject_is_refused():
    with pytest.raises(ValueError, match="mask"):
        scores.subject_segment(torch.ones(3, 4, 4), torch.full((4, 4), 0.4))


# Bootstrap


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(0, 99))
def test_the_interval_covers_the_mean(values, seed):
    estimate = scores.estimate_mean(torch.tensor(values), seeded(seed), resamples=50)
    assert estimate.low is not None and estimate.high is not None
    assert min(values) - 1e-6 <= estimate.low <= estimate.mean <= estimate.high <= max(values) + 1e-6
    assert estimate.mean == pytest.approx(np.mean(np.float32(values), dtype=np.float64), abs=1e-9)
    assert estimate.n == len(values)


def test_the_same_seed_gives_the_same_interval_in_any_order():
    values = random(40)
    first = scores.estimate_mean(values, seeded(3))
    assert scores.estimate_mean(values.flip(0), seeded(3)) == first
    assert scores.estimate_mean(values, seeded(4)) != first


def test_one_value_has_no_interval():
    assert scores.estimate_mean(torch.tensor([0.25]), seeded()) == scores.Estimate(0.25, None, None, 1)


def test_the_interval_is_the_standard_errors_of_many_values():
    values = random(400)
    estimate = scores.estimate_mean(values, seeded(), resamples=4000)
    assert estimate.low is not None and estimate.high is not None
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * values.std().item() / 20, rel=0.06)


def test_drawing_in_blocks_changes_nothing(monkeypatch):
    whole = scores.estimate_mean(random(10), seeded(), resamples=100)
    monkeypatch.setattr(bootstrap, "BLOCK", 70)
    assert scores.estimate_mean(random(10), seeded(), resamples=100) == whole


@pytest.mark.parametrize("values", ([], [0.1, math.nan], [math.inf]))
def test_nothing_and_what_is_not_finite_have_no_mean(values):
    with pytest.raises(ValueError, match="values"):
        scores.estimate_mean(torch.tensor(values), seeded())


def test_a_summary_holds_every_prompt_independent_of_others():
    values, prompts = random(6), ["b", "a", "b", "b", "a", "c"]
    summary = scores.summarize(values, prompts, seed=1)
    assert list(summary.per_prompt) == ["b", "a", "c"]
    assert summary.per_prompt["c"].n == 1
    assert summary.per_prompt["b"] == scores.summarize(values[[3, 0, 2]], ["b"] * 3, seed=1).overall
    assert summary.overall.mean == pytest.approx(values.mean().item())
    total = sum(estimate.mean * estimate.n for estimate in summary.per_prompt.values())
    assert total / 6 == pytest.approx(summary.overall.mean)


# Prompts


@pytest.mark.parametrize(
    ("prompt", "read", "removed"),
    (
        ("a photo of a embedding:my-cat.v2 in town", "a photo of a cat in town", "a photo of a in town"),
        ("a embedding:my-cat cat, sleeping", "a cat, sleeping", "a cat, sleeping"),
        ("a {} , sleeping", "a cat, sleeping", "a, sleeping"),
        ("a sks cat on a catwalk", "a cat on a catwalk", "a cat on a catwalk"),
        ("a SKS catwalk", "a cat catwalk", "a catwalk"),
        ("embedding:my-cat", "cat", ""),
        ("a cat in masks", "a cat in masks", "a cat in masks"),
    ),
)
def test_the_identifier_is_replaced_or_removed(prompt, read, removed):
    assert scores.with_category(prompt, "sks", "cat") == read
    assert scores.without_identifier(prompt, "sks") == removed


@pytest.mark.parametrize(
    ("prompt", "around"),
    (
        ("a embedding:red-boots in the snow", "a in the snow"),
        ("a embedding:my-style robe, sleeping", "a, sleeping"),
        ("a {} robe in a robe", "a in a robe"),
        ("a sks robe in the style of Monet", "a in the style of Monet"),
    ),
)
def test_the_concepts_own_name_changes_no_appearance(prompt, around):
    assert scores.around_concept(prompt, "sks", "robe") == around
    changed = scores.changes_appearance(scores.around_concept(prompt, "sks", "robe"), scores.APPEARANCE_PHRASES)
    assert changed == ("in a robe" in around or "style" in around)


def test_other_concepts_are_read_as_what_they_are():
    prompt = "a embedding:my-dog and a embedding:my-dog-2 cat, with embedding:my-dog."
    assert scores.embedding_names(prompt) == ["my-dog", "my-dog-2", "my-dog."]
    assert scores.with_other_concepts("embedding:my-dog, embedding:my-dog-2 cat", {"my-dog-2": "cat"}) == (
        "embedding:my-dog, cat"
    )
    assert scores.with_other_concepts("a Embedding:x in town", {"x": ""}) == "a  in town"


def test_without_a_super_category_both_texts_are_the_same():
    prompt = "a photo of a {} in the snow"
    assert scores.with_category(prompt, "", " ") == scores.without_identifier(prompt, "")


def test_of_the_papers_prompts_styles_and_outfits_are_left_out():
    left_out = {
        name: [prompt for prompt in prompt_set(name) if scores.changes_appearance(prompt, scores.APPEARANCE_PHRASES)]
        for name in EVALUATION_SETS
    }
    assert left_out["evaluation_animate"] == list(prompt_set("evaluation_animate")[14:])
    assert left_out["evaluation_inanimate"] == list(prompt_set("evaluation_inanimate")[14:])


def test_phrases_are_whole_words_in_any_case():
    assert scores.changes_appearance("A cat In The STYLE of Monet", ["style"])
    assert not scores.changes_appearance("a stylish cat on the turnstyle", ["style"])
    assert not scores.changes_appearance("a cat wearing a hat", ["", " "])


def test_shapes_that_do_not_match_are_not_broadcast():
    for score in SET_SCORES:
        with pytest.raises(RuntimeError):
            score(random(2, 8), random(2, 1))
