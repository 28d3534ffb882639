"""A training inside a node: progress, curves, previews and saved states; however it stops, nothing learned is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core_ops.training.training_loop import LoopConfig, StepReport, TrainingLoop
from ..files import concept_files
from ..host.models.module_copy import autograd_mode
from ..host.run_control import RunProgress, duration
from .memory_plan import PlannedMemory

logger = logging.getLogger(__name__)
STEPS_TO_PEAK = 2
"""The first step makes the optimizer's state; in the second it is there beside the activations."""


@dataclass(frozen=True)
class SessionPlan:
    """name: of the files, and what the user writes in resume_from. state_name: of the state's file.

    steps: of the whole training. preview_every, save_every: steps, 0 for never. fingerprint: of all that a resumed run
    must share with this one. began: in `time.monotonic`'s seconds.
    """

    name: str
    state_name: str
    steps: int
    preview_every: int
    save_every: int
    fingerprint: str
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, settings: Any, name: str, state_name: str, fingerprint: str) -> SessionPlan:
        return cls(name, state_name, settings.steps, settings.preview_every, settings.save_every, fingerprint)


def loop_config(settings: Any, fp16: bool, **more: Any) -> LoopConfig:
    """What a training node's settings say of its loop. fp16: the U-Net computes in it. more: further fields."""
    return LoopConfig(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        gradient_accumulation=settings.gradient_accumulation,
        max_gradient_norm=settings.max_gradient_norm,
        seed=settings.seed,
        fp16_scaling=fp16,
        **more,
    )


@dataclass(frozen=True)
class SessionCallbacks:
    """How a session shows and keeps what was learned so far.

    preview: pictures [H, W, 3] of the concept as it is. keep: writes it under a name, with a record of the training
    for its card, and returns what to tell the user.
    """

    preview: Callable[[], Tensor]
    keep: Callable[[str, Mapping[str, Any]], str]


class Session:
    """losses: a curve per term and observation. shares: of the gradient norm per term, as last measured."""

    def __init__(
        self,
        plan: SessionPlan,
        loop: TrainingLoop,
        callbacks: SessionCallbacks,
        memory: PlannedMemory,
        node_id: str | None,
    ) -> None:
        self.plan, self.loop, self.node_id = plan, loop, node_id
        self.losses: dict[str, list[float]] = {}
        self.shares: dict[str, float] = {}
        self._callbacks, self._memory = callbacks, memory
        self._first_step = loop.step

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Continues from a saved state, if there is one."""
        if state is not None:
            self.loop.load_state_dict(state["loop"])
            self.losses = {name: list(values) for name, values in state["losses"].items()}
        self._first_step = self.loop.step

    @contextmanager
    def keeping_progress(self) -> Iterator[None]:
        """Around training and saving: when either stops early, state and what was learned are written first."""
        try:
            yield
        except BaseException:
            self._keep_what_was_learned()
            raise

    def train(self) -> None:
        """Runs to the end."""
        progress = RunProgress(self.plan.steps, self.node_id, done=self.loop.step)
        with autograd_mode():
            for report in self.loop:
                self._note(report)
                if report.step <= self._first_step + STEPS_TO_PEAK:
                    self._memory.note_peak()
                preview = self._callbacks.preview() if _due(report.step, self.plan.preview_every) else None
                if _due(report.step, self.plan.save_every):
                    self.save_state()
                    self._keep_step()
                progress.update(report.step, self._described(report), preview)

    def last_preview(self) -> Tensor:
        """[1, H, W, 3]. The editor goes on showing a live preview in place of the node's own pictures: this is it."""
        preview = self._callbacks.preview()
        RunProgress(self.plan.steps, self.node_id).show(self.loop.step, preview)
        return preview.unsqueeze(0)

    @property
    def memory(self) -> str:
        """What was planned and, after the first steps, what was taken."""
        return self._memory.text

    def record(self) -> dict[str, Any]:
        """What a file's card says of the training so far."""
        return {
            "steps_done": self.loop.step,
            "final_terms": {name: values[-1] for name, values in self.losses.items() if values},
            "gradient_shares": self.shares,
            "memory": self.memory,
        }

    def summary(self, path: Path, phrase: str, *more: str) -> str:
        """Lines for the node when it is done. phrase: what the user writes in prompts."""
        terms = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.losses.items() if "." not in name)
        took = duration(time.monotonic() - self.plan.began)
        lines = [f"{path.name}: {self.loop.step} steps, {took}", f"In prompts: {phrase}", f"Last step: {terms}", *more]
        return "\n".join([*lines, f"The training {self.memory}."])

    def save_state(self) -> str:
        """Writes the state to resume from, in place of an earlier step's; returns what to tell the user about it."""
        state = {"loop": self.loop.state_dict(), "losses": self.losses, "fingerprint": self.plan.fingerprint}
        concept_files.save_state(self.plan.state_name, state)
        return f"a state to continue from with resume_from = {self.plan.name}"

    def _note(self, report: StepReport) -> None:
        for name, value in {"loss": report.total, **report.terms, **report.observations}.items():
            self.losses.setdefault(name, []).append(value)
        if report.gradient_shares is not None:
            self.shares = dict(report.gradient_shares)
            for name, value in self.shares.items():
                self.losses.setdefault(f"gradient_share.{name}", []).append(value)

    def _described(self, report: StepReport) -> str:
        terms = ", ".join(f"{name} {value:.4g}" for name, value in report.terms.items())
        if len(self.shares) < 2:
            return terms
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items())
        return f"{terms} · gradient: {shares}"

    def _keep_step(self) -> str:
        return self._callbacks.keep(f"{self.plan.name}-step{self.loop.step}", self.record())

    def _keep_what_was_learned(self) -> None:
        if self.loop.step == self._first_step:
            return
        kept = []
        for keep in (self._keep_step, self.save_state):
            try:
                kept.append(keep())
            except Exception:  # the error that stopped the training is the one to show
                logger.exception("Something could not be kept; the error that stopped the training follows.")
        message = (
            f"{self.plan.name}: stopped after step {self.loop.step}. "
            f"Kept: {', and '.join(kept) or 'nothing, for it could not be written; see the log'}."
        )
        logger.info(message)
        RunProgress(self.plan.steps, self.node_id).say(message)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
