"""The card's memory after trainings, however ComfyUI was started."""

from __future__ import annotations

import pytest
import torch
from families import concepts
from families.hashing import weights_hash
from robustness.smallest import Models
from robustness.subjects import finetune, train_embedding

from gpu.card import allocated, unload_everything

ROUNDING = 0.5
"""MiB: small tensors that the host keeps beside its models."""


def after_core(models: Models) -> tuple[float, str]:
    """What is allocated, and what the weights are, when core's own nodes have used all three models."""
    concepts.sample(models[0], models[1], "a dog")
    with torch.inference_mode():
        models[2].encode(torch.rand(1, 64, 64, 3))
    return unloaded(models)


def unloaded(models: Models) -> tuple[float, str]:
    unload_everything()
    return allocated(), weights_hash(models)


def train(models: Models) -> float:
    """What is allocated after an embedding and a U-Net."""
    train_embedding(models, "again", method="CoRe", preview_every=2, steps=2)
    finetune(models, "again", form="full weights", steps=1)
    return allocated()


def test_trainings_leave_the_card_as_they_found_it(models):
    import comfy.model_management as host

    resting, weights = after_core(models)
    if host.vram_state not in (host.VRAMState.HIGH_VRAM, host.VRAMState.NO_VRAM):  # which keep some there
        assert resting == pytest.approx(0, abs=ROUNDING)
    first, second, third = (train(models) for _ in range(3))
    assert second == pytest.approx(first, abs=ROUNDING) and third == pytest.approx(first, abs=ROUNDING)
    left, weights_left = unloaded(models)
    assert left == pytest.approx(resting, abs=ROUNDING)
    assert weights_left == weights
