"""A picture with n repeats is drawn n times as often as one with one; nothing else changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from core_ops.toy_models import ToyDenoiser, images
from core_personalization.core_ops.training import training_data
from core_personalization.core_ops.training.training_data import draw_batch
from hypothesis import given
from hypothesis import strategies as st


def drawn(repeats: list[int], batch_size: int, steps: int, monkeypatch) -> Counter[int]:
    data, chosen = replace(images(len(repeats)), repeats=repeats), Counter[int]()
    original = training_data.noised_batch

    def noted(data, schedule, indices, *args):
        chosen.update(indices.tolist())
        return original(data, schedule, indices, *args)

    random = torch.Generator().manual_seed(0)
    with monkeypatch.context() as patched:
        patched.setattr(training_data, "noised_batch", noted)
        for _ in range(steps):
            draw_batch(data, ToyDenoiser().schedule, batch_size, random)
    return chosen


@given(repeats=st.lists(st.integers(1, 5), min_size=1, max_size=4), times=st.integers(1, 2))
def test_a_batch_as_large_as_all_repeats_has_each_picture_so_often(repeats, times):
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = drawn(repeats, batch_size=times * sum(repeats), steps=1, monkeypatch=monkeypatch)
    assert found == {index: times * count for index, count in enumerate(repeats)}


def test_in_small_batches_it_is_so_on_average(monkeypatch):
    found = drawn([3, 1], batch_size=1, steps=400, monkeypatch=monkeypatch)
    assert found[0] / 400 == pytest.approx(0.75, abs=0.07)


def test_without_repeats_what_is_drawn_stays_bit_for_bit():
    schedule, data = ToyDenoiser().schedule, images(3)
    one, other = (
        draw_batch(each, schedule, 4, torch.Generator().manual_seed(1))
        for each in (data, replace(data, repeats=[1] * 3))
    )
    assert torch.equal(one.parts[0].z_t, other.parts[0].z_t)
