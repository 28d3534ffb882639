"""The card's memory after trainings, however ComfyUI was started."""

from __future__ import annotations

import pytest
from families.hashing import weights_hash
from robustness.smallest import Models
from robustness.subjects import finetune, optimize, train_embedding

from gpu.card import allocated, unload_everything

ROUNDING = 0.5
"""MiB: small tensors that the host keeps beside its models."""


def train_all(models: Models) -> None:
    train_embedding(models, "again", method="CoRe", preview_every=2, steps=2)
    finetune(models, "again", form="full weights", preview_every=2, steps=2)
    optimize(models, "again")


@pytest.mark.parametrize("form", [None, "full weights", "LoRA"])
def test_a_training_leaves_as_much_memory_as_it_found(models, form):
    def train() -> None:
        finetune(models, "left", form=form, steps=2) if form else train_embedding(models, "left", steps=2)

    train()
    before = allocated()
    train()
    assert allocated() == pytest.approx(before, abs=ROUNDING)


def test_three_trainings_and_an_unload_leave_nothing(models):
    for _ in range(3):
        train_all(models)
    unload_everything()
    assert allocated() == pytest.approx(0, abs=ROUNDING)


def test_the_hosts_weights_are_what_they_were(models):
    before = weights_hash(models)
    train_all(models)
    assert weights_hash(models) == before
