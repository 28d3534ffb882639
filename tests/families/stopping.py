"""Trainings that the user stops."""

from __future__ import annotations


def cancel_after(monkeypatch, step: int) -> None:
    """The user presses cancel while step `step` of a training runs."""
    import comfy.model_management
    from core_personalization.nodes.training.session import Session

    note = Session._note

    def note_and_cancel(run, report):
        note(run, report)
        if report.step == step:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(Session, "_note", note_and_cancel)
