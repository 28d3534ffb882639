"""Captions say what the picture shows, and never a combination kept for the evaluation."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lab.world.drawing import dataset
from lab.world.drawing.appearance import COLOURS
from lab.world.drawing.captions import PATTERN_WORDS, SECOND_COLOUR_WORDS, is_held_out, labels_of, sample_scene
from lab.world.drawing.contexts import CONTEXTS
from lab.world.drawing.evaluation_prompts import evaluation_prompts
from lab.world.drawing.objects import OBJECTS
from lab.world.evaluation import interval


@pytest.fixture(scope="module")
def drawn():
    return [sample_scene(random.Random(seed)) for seed in range(500)]


def test_captions_name_only_what_is_there(drawn):
    for item in drawn:
        words, scene = item.caption.split(), item.scene
        assert scene.kind in words
        assert not ({*OBJECTS} - {scene.kind}) & {*words}
        assert ("hat" in words) <= (scene.accessory == "hat")
        assert ("sunglasses" in words) <= (scene.accessory == "sunglasses")
        assert bool({*PATTERN_WORDS.values()} & {*words}) <= (scene.appearance.pattern is not None)
        assert all(context in (None, scene.context) for context in CONTEXTS if context in item.caption)


def test_second_colours_have_words_of_their_own():
    assert not {*SECOND_COLOUR_WORDS} & {*SECOND_COLOUR_WORDS.values()}
    assert len({*SECOND_COLOUR_WORDS.values()}) == len(SECOND_COLOUR_WORDS)


def test_held_out_combinations_are_never_drawn(drawn):
    for item in drawn:
        labels = labels_of(item.scene)
        named = [*COLOURS, None][labels.colour]
        assert not is_held_out(item.scene.kind, item.scene.context, named)
    every = [sample_scene(random.Random(seed), every=True).scene for seed in range(100)]
    assert any(is_held_out(scene.kind, scene.context, None) for scene in every), "the judge sees them"
    for kind in OBJECTS:
        assert sum(is_held_out(kind, context, None) for context in CONTEXTS) == 1
        assert sum(is_held_out(kind, None, colour) for colour in COLOURS) == 1


def test_a_data_set_follows_its_seed_and_survives_its_file(tmp_path):
    first, again = (dataset.draw(3, seed=5, processes=1) for _ in range(2))
    assert np.array_equal(first.images, again.images) and first.captions == again.captions
    dataset.save(first, tmp_path)
    loaded = dataset.load(tmp_path)
    for name in ("images", "masks", "labels"):
        assert np.array_equal(getattr(first, name), getattr(loaded, name))


def test_evaluation_prompts_are_held_out_and_follow_the_seed():
    prompts = evaluation_prompts(50, seed=2)
    assert prompts == evaluation_prompts(50, seed=2) != evaluation_prompts(50, seed=3)
    for prompt in prompts:
        labels = prompt.labels
        kind, context, colour = [*OBJECTS][labels.kind], [None, *CONTEXTS][labels.context], [*COLOURS][labels.colour]
        assert is_held_out(kind, context, colour)
        assert f"{colour} {kind}" in prompt.text and prompt.text.endswith(context)


def test_intervals_hold_the_share_and_narrow_with_the_count():
    low, high = interval(90, 100)
    assert low < 0.9 < high
    assert interval(900, 1000)[0] > low
    assert interval(100, 100)[1] == pytest.approx(1.0)
