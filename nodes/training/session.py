"""A training inside a node: progress, curves, previews and saved states; however it stops, nothing learned is lost."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core_ops.training.memory_estimate import MemoryPlan
from ...core_ops.training.training_loop import StepReport, TrainingLoop
from ..files import concept_files
from ..host.models.device_memory import PeakMemory, Room, free_for, gib, make_room
from ..host.models.module_copy import autograd_mode
from ..host.run_control import RunProgress, duration

logger = logging.getLogger(__name__)
STEPS_TO_PEAK = 2
"""The first step makes the optimizer's state; in the second it is there beside the activations."""


@dataclass(frozen=True)
class RunPlan:
    """state_name: of the file to resume from. resume_from: what the user writes to do so. every: steps, 0 for never."""

    state_name: str
    resume_from: str
    steps: int
    preview_every: int
    save_every: int
    fingerprint: str


class TrainingRun(ABC):
    """A subclass makes `loop`, ready to train, and says how to preview and what to keep."""

    loop: TrainingLoop

    def __init__(self, plan: RunPlan, node_id: str | None) -> None:
        self.plan, self.node_id = plan, node_id
        self.losses: dict[str, list[float]] = {}
        self.shares: dict[str, float] = {}
        self._first_step = 0
        self._started = time.monotonic()
        self.memory = ""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it computes."""

    @abstractmethod
    def preview(self) -> Tensor:
        """Pictures [H, W, 3] of the concept as it is."""

    @abstractmethod
    def keep_step(self) -> str:
        """Writes what was learned so far under a name of this step; returns what to tell the user about it."""

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Continues from a saved state, if there is one."""
        if state is not None:
            self.loop.load_state_dict(state["loop"])
            self.losses = {name: list(values) for name, values in state["losses"].items()}
        self._first_step = self.loop.step

    @contextmanager
    def nothing_lost(self) -> Iterator[None]:
        """Around training and saving: when either stops early, state and what was learned are written first."""
        try:
            yield
        except BaseException:
            self._keep_what_was_learned()
            raise

    def train(self) -> None:
        """Runs to the end."""
        progress = RunProgress(self.plan.steps, self.node_id, done=self.loop.step)
        planned = self.memory
        with autograd_mode():
            for report in self.loop:
                self._note(report)
                if report.step <= self._first_step + STEPS_TO_PEAK and (taken := self._peak.taken()) is not None:
                    self.memory = f"{planned}, took {gib(taken)}"
                preview = self.preview() if _due(report.step, self.plan.preview_every) else None
                if _due(report.step, self.plan.save_every):
                    self.save_state()
                    self.keep_step()
                progress.update(report.step, self._describe(report), preview)

    def make_room(self, plan: MemoryPlan, remedy: Callable[[Room], str]) -> None:
        """Before anything is copied; raises ValueError, with the remedy, where the training would not fit.

        `memory` says what was planned and, after the first steps, what was taken.
        """
        self.memory = make_room(plan, self.device, remedy)
        RunProgress(self.plan.steps, self.node_id).say(f"The training {self.memory}.")

    def measure_peak(self, plan: MemoryPlan) -> None:
        """From here on; the VAE that encoded the pictures leaves, where it takes room that the plan needs."""
        free_for(plan, self.device)
        self._peak = PeakMemory(self.device)

    def last_preview(self) -> Tensor:
        """[1, H, W, 3]. The editor goes on showing a live preview in place of the node's own pictures: this is it."""
        preview = self.preview()
        RunProgress(self.plan.steps, self.node_id).show(self.loop.step, preview)
        return preview.unsqueeze(0)

    def summary(self, path: Path, phrase: str, *more: str) -> str:
        """Lines for the node when it is done. phrase: what the user writes in prompts."""
        terms = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.losses.items() if "." not in name)
        took = duration(time.monotonic() - self._started)
        lines = [f"{path.name}: {self.loop.step} steps, {took}", f"In prompts: {phrase}", f"Last step: {terms}", *more]
        lines += [f"The training {self.memory}."]
        return "\n".join(lines)

    def save_state(self) -> None:
        """Writes the state to resume from; it replaces that of an earlier step."""
        state = {"loop": self.loop.state_dict(), "losses": self.losses, "fingerprint": self.plan.fingerprint}
        concept_files.save_state(self.plan.state_name, state)

    def _note(self, report: StepReport) -> None:
        for name, value in {"loss": report.total, **report.terms, **report.observations}.items():
            self.losses.setdefault(name, []).append(value)
        if report.gradient_shares is not None:
            self.shares = dict(report.gradient_shares)
            for name, value in self.shares.items():
                self.losses.setdefault(f"gradient_share.{name}", []).append(value)

    def _describe(self, report: StepReport) -> str:
        terms = ", ".join(f"{name} {value:.4g}" for name, value in report.terms.items())
        if len(self.shares) < 2:
            return terms
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items())
        return f"{terms} · gradient: {shares}"

    def _keep_what_was_learned(self) -> None:
        if self.loop.step == self._first_step:
            return
        kept = [text for text in (_tried(self.keep_step), _tried(self._keep_state)) if text]
        message = (
            f"{self.plan.resume_from}: stopped after step {self.loop.step}. "
            f"Kept: {', and '.join(kept) or 'nothing, for it could not be written; see the log'}."
        )
        logger.info(message)
        RunProgress(self.plan.steps, self.node_id).say(message)

    def _keep_state(self) -> str:
        self.save_state()
        return f"a state to continue from with resume_from = {self.plan.resume_from}"


def _tried(keep: Callable[[], str]) -> str | None:
    """What was kept; None when that failed, too: the error that stopped the training is the one to show."""
    try:
        return keep()
    except Exception:
        logger.exception("Something could not be kept; the error that stopped the training follows.")
        return None


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
