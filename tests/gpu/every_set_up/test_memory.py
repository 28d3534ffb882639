"""The card's memory after trainings, however ComfyUI was started."""

from __future__ import annotations

import pytest
from families.hashing import weights_hash
from robustness.smallest import Models
from robustness.subjects import finetune, train_embedding

from gpu.card import allocated, unload_everything

ROUNDING = 0.5
"""MiB: small tensors that the host keeps beside its models."""


def train(models: Models) -> float:
    """What is allocated after an embedding and a U-Net."""
    train_embedding(models, "again", method="CoRe", preview_every=2, steps=2)
    finetune(models, "again", form="full weights", steps=1)
    return allocated()


def test_trainings_leave_the_card_as_they_found_it(models):
    before = weights_hash(models)
    first, second, third = (train(models) for _ in range(3))
    assert second == pytest.approx(first, abs=ROUNDING) and third == pytest.approx(first, abs=ROUNDING)
    unload_everything()
    assert allocated() == pytest.approx(0, abs=ROUNDING)
    assert weights_hash(models) == before
