"""Trainings that stop on the card: resumed, cancelled, out of memory, refused; nothing learned is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from families.hashing import weights_hash
from robustness.subjects import FINETUNE, TRAIN, Subject

from gpu.card import allocated, nearly_full

pytestmark = pytest.mark.usefixtures("no_last_preview")
subjects = pytest.mark.parametrize("subject", [TRAIN, FINETUNE], ids=["embedding", "U-Net"])


def after_step(monkeypatch: pytest.MonkeyPatch, step: int, then: Any) -> None:
    from core_personalization.nodes.training.session import Session

    note = Session._note

    def noted(run: Any, report: Any) -> None:
        note(run, report)
        if report.step == step:
            then()

    monkeypatch.setattr(Session, "_note", noted)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@subjects
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(models, subject: Subject, precision):
    whole = subject.run(models, "whole", steps=2, precision=precision)
    subject.run(models, "parted", steps=1, save_every=1, precision=precision)
    resumed = subject.run(models, "parted", steps=2, precision=precision)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_an_embedding_goes_on_past_the_next_measurement_of_its_gradients(models, monkeypatch):
    """What they are means of comes from the state, which is in main memory."""
    import comfy.model_management
    from core_personalization.nodes.host.run_control import Cancelled

    whole = TRAIN.run(models, "measured", steps=6)
    after_step(monkeypatch, 4, comfy.model_management.interrupt_current_processing)
    with pytest.raises(Cancelled):
        TRAIN.run(models, "stopped", steps=6)
    monkeypatch.undo()
    resumed = TRAIN.run(models, "stopped", steps=6)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_state_has_what_is_trained_in_main_memory(models, monkeypatch):
    from core_personalization.core_ops.training.training_loop import TrainingLoop

    whole, kept = TrainingLoop.state_dict, []

    def noted(loop: TrainingLoop) -> dict[str, Any]:
        state = whole(loop)
        kept.extend(state["parameters"].values())
        return state

    monkeypatch.setattr(TrainingLoop, "state_dict", noted)
    FINETUNE.run(models, "placed", steps=1, save_every=1)
    assert kept and {tensor.device.type for tensor in kept} == {"cpu"}


@pytest.mark.parametrize("more", [{}, {"fused_backward": True, "form": "full weights"}], ids=["whole", "fused"])
@subjects
def test_a_cancel_within_the_backward_pass_keeps_the_learned(models, monkeypatch, subject: Subject, more):
    """Checkpointed blocks run again in autograd's own thread, where ComfyUI looks for the cancel button."""
    import comfy.model_management
    import comfy.ops
    from core_personalization.nodes.host.run_control import Cancelled

    if more and subject is TRAIN:
        pytest.skip("an embedding has no updates within the backward pass")
    pressed: list[threading.Thread] = []
    look = comfy.ops.run_every_op

    def press_and_look() -> None:
        if threading.current_thread() is not threading.main_thread() and not pressed:
            pressed.append(threading.current_thread())
            comfy.model_management.interrupt_current_processing()
        look()

    before, found = weights_hash(models), allocated()
    after_step(monkeypatch, 1, lambda: monkeypatch.setattr(comfy.ops, "run_every_op", press_and_look))
    with pytest.raises(Cancelled):
        subject.run(models, "pressed", steps=4, gradient_checkpointing=True, **more)
    assert pressed
    assert weights_hash(models) == before
    assert allocated() <= found + 1
    monkeypatch.undo()
    assert len(subject.run(models, "pressed", steps=2, **more)["losses"]) == 2


@subjects
def test_out_of_memory_keeps_the_state_and_says_what_to_lower(models, monkeypatch, subject: Subject):
    full = nearly_full(left_mib=4)
    whole = subject.run(models, "enough", steps=3)
    after_step(monkeypatch, 2, full.__enter__)
    with pytest.raises(RuntimeError, match=r"Out of memory\. .*Lower "):
        subject.run(models, "short", steps=3)
    full.__exit__(None, None, None)
    monkeypatch.undo()
    resumed = subject.run(models, "short", steps=3)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@subjects
def test_what_does_not_fit_is_refused_before_the_first_step(models, monkeypatch, subject: Subject):
    from core_personalization.nodes.training.session import Session

    subject.run(models, "fits", steps=1)
    before = allocated()
    monkeypatch.setattr(Session, "train", lambda run: pytest.fail("training was started"))
    with nearly_full(left_mib=700), pytest.raises(ValueError, match=r"^memory: .* found .* on cuda:0\."):
        subject.run(models, "large", resolution=512, batch_size=8)
    assert allocated() <= before + 1


def test_nothing_unfinished_lies_about(output_folder: Path, embeddings: Path):
    assert not [*output_folder.rglob(".core-*"), *embeddings.rglob(".core-*")]
