"""A training inside a node: progress, curves, previews and saved states; however it stops, nothing learned is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core_ops.pictures import Pictures
from ...core_ops.training.steady_loss import SteadyLoss
from ...core_ops.training.training_loop import StepReport, TrainingLoop
from ..files import concept_files, safe_files
from ..files.concept_files import picture_beside
from ..host.models.module_copy import autograd_mode
from ..host.run_control import RunProgress, duration, image_of, jpeg, show_text
from ..labels import SYMBOLS
from .advice import advised, on_first_loss
from .concept_preview import references
from .kept_trainings import MadeOf
from .loss_chart import STEADY, loss_chart, over_chart, thinned
from .memory_plan import PlannedMemory
from .shared_settings import steady_plan

logger = logging.getLogger(__name__)
STEPS_TO_PEAK = 2
"""The first step makes the optimizer's state; in the second it is there beside the activations."""


@dataclass(frozen=True)
class SessionPlan:
    """name: of the files. folders: that those lie in, pictures in the first. state_name: of the state's file.

    settings: the node's; steps, preview_every, save_every (0 for never), clear_steps, overwrite. made_of: all that a
    training that goes on must share with this one. notes: lines for the user. others: names of further concepts, whose
    files lie beside a step's own. began: in `time.monotonic`'s seconds.
    """

    name: str
    folders: Sequence[Path]
    state_name: str
    settings: Any
    made_of: MadeOf
    notes: Sequence[str] = ()
    others: Sequence[str] = ()
    began: float = field(default_factory=time.monotonic)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.settings.steps


@dataclass(frozen=True)
class SessionCallbacks:
    """How a session shows, measures and keeps what was learned so far.

    preview: pictures of the concept as it is, [1, H, W, 3]. keep: writes it under a name, with a record of the training
    for its card, and returns what to tell the user. steady: the steady loss.
    """

    preview: Callable[[], Tensor]
    keep: Callable[[str, Mapping[str, Any]], str]
    steady: SteadyLoss


class Session:
    """losses: a curve per term and observation.

    shares: of the gradient norm per term as last measured, of averaged gradients where these are.
    """

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
        self.steady_steps: list[int] = []
        self.went_on: list[str] = []
        self._callbacks, self._memory = callbacks, memory
        self._first_step = loop.step
        self._steady_every = steady_plan(plan.settings).every
        self._drawn: Tensor | None = None

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Continues from a saved state, if there is one."""
        if state is not None:
            self.loop.load_state_dict(state["loop"])
            self.losses = {name: list(values) for name, values in state["losses"].items()}
            self.steady_steps = list(state["steady_steps"])
            self.went_on = list(state.get("went_on", []))
            show_text(f"Goes on from step {self.loop.step} of {self.plan.steps}.", self.node_id)
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
            self._measure_steadily()
            for report in self.loop:
                self._note(report)
                if report.step <= self._first_step + STEPS_TO_PEAK:
                    self._memory.note_peak()
                measured = self._measure_steadily()
                drawn = _due(report.step, self.plan.settings.preview_every) and self._draw(report.step)
                if _due(report.step, self.plan.settings.save_every):
                    self.save_state()
                    self._keep_step()
                shown = self.shown()[0] if (measured or drawn) and self.node_id is not None else None
                steady = f"loss {self.losses[STEADY][-1]:.3g} (step {self.steady_steps[-1]})"
                told = "\n".join([steady, *self._first_loss_note()])
                progress.update(report.step, told, shown)

    def finish(self, saved: Path, pictures: Pictures) -> Tensor:
        """When the files are written: the last preview, [1, H, W, 3], and what is of use no more is removed.

        saved: the file of what was learned. pictures: shown in place of a preview where none is wanted.
        """
        settings = self.plan.settings
        if settings.preview_every:
            if self._drawn is None or not _due(self.loop.step, settings.preview_every):
                show_text("Drawing the preview …", self.node_id)
                self._draw_preview()
            _write_picture(picture_beside(saved), self._drawn)
        else:  # that of an earlier training, whose file this one has replaced
            concept_files.remove(picture_beside(saved))
        if settings.clear_steps:
            for folder in self.plan.folders:
                concept_files.remove_steps(folder, self.plan.name, self.plan.others)
        if settings.clear_steps or not settings.save_every:
            concept_files.remove_state(self.plan.state_name)
        else:
            try:
                self.save_state(unsaved=False)  # more steps may be wanted
            except OSError as error:  # all that was learned is written
                logger.warning("%s", error)
        preview = references(pictures) if self._drawn is None else self._drawn
        if self.node_id is not None:  # the editor goes on showing a live picture in place of the node's own: this is it
            RunProgress(self.plan.steps, self.node_id).show(self.loop.step, over_chart(preview, self.chart())[0])
        return preview

    def chart(self) -> Tensor:
        """[1, H, W, 3]: the training so far."""
        return loss_chart(self.losses, self.steady_steps, self.loop.step)

    def shown(self) -> Tensor:
        """[1, H, W, 3], for the node: the last preview, if there is one, over the chart."""
        return over_chart(self._drawn, self.chart())

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
            "made_of": self.plan.made_of.parts,
            "curves": {name: thinned(values) for name, values in self.losses.items()},
            "steady_steps": self.steady_steps,
            **({"went_on": self.went_on} if self.went_on else {}),
        }

    def summary(self, path: Path, phrase: str, *more: str) -> str:
        """Lines for the node when it is done. phrase: what the user writes in prompts."""
        terms = ", ".join(
            f"{SYMBOLS.get(name, name)} {values[-1]:.4g}"
            for name, values in self.losses.items()
            if "." not in name and name != STEADY
        )
        took = duration(time.monotonic() - self.plan.began)
        steps, before = f"{path.name}: {self.loop.step} steps", self._first_step
        done = f"{steps}, {before} of them before it stopped, {took}" if before else f"{steps}, {took}"
        return "\n".join(
            [
                f"Done. Write {phrase} in any prompt.",
                done,
                f"Steady loss: {self.losses[STEADY][0]:.3g}, now {self.losses[STEADY][-1]:.3g}",
                f"Last step: {terms}",
                *self.plan.notes,
                *self._first_loss_note(),
                *(f"It went on {text}." for text in self.went_on),
                *more,
                f"The training {self.memory}.",
            ]
        )

    def save_state(self, unsaved: bool = True) -> str:
        """Writes the state to go on from, in place of an earlier step's; returns what to tell the user about it.

        unsaved: the files of what was learned may not be written, though all steps were made.
        """
        state = {
            "unsaved": unsaved,
            "steady_samples": self._callbacks.steady.samples,
            "loop": self.loop.state_dict(),
            "losses": self.losses,
            "steady_steps": self.steady_steps,
            "went_on": self.went_on,
            "settings": asdict(self.plan.settings),
            "made_of": dict(self.plan.made_of.parts),
        }
        concept_files.save_state(self.plan.state_name, state)
        return "a state, from which Run goes on"

    def _note(self, report: StepReport) -> None:
        for name, value in {"loss": report.total, **report.terms, **report.observations}.items():
            self.losses.setdefault(name, []).append(value)
        if report.gradient_shares is not None:
            self.shares = dict(report.averaged_shares or report.gradient_shares)
            for name, value in report.gradient_shares.items():
                self.losses.setdefault(f"gradient_share.{name}", []).append(value)
        for name, value in (report.averaged_shares or {}).items():
            self.losses.setdefault(f"averaged_share.{name}", []).append(value)

    def _measure_steadily(self) -> bool:
        """Whether it is time to, and so it was done."""
        step = self.loop.step
        due = step % self._steady_every == 0 or step == self.plan.steps
        if not due or step in self.steady_steps:
            return False
        with self.loop.averaged():
            self.losses.setdefault(STEADY, []).append(self._callbacks.steady())
        self.steady_steps.append(step)
        return True

    def _first_loss_note(self) -> Sequence[str]:
        recipe: Any = self.loop.recipe
        return advised(on_first_loss(self.losses[STEADY][0], recipe.problem.denoiser.schedule.prediction))

    def _draw(self, step: int) -> bool:
        """A preview, also as a file beside the step's own."""
        show_text(f"step {step}/{self.plan.steps} · drawing the preview", self.node_id)
        self._draw_preview()
        _write_picture(self.plan.folders[0] / f"{concept_files.step_name(self.plan.name, step)}.jpg", self._drawn)
        return True

    def _draw_preview(self) -> None:
        with self.loop.averaged():
            self._drawn = self._callbacks.preview()
        self._memory.take_back()

    def _keep_step(self) -> str:
        with self.loop.averaged():
            return self._callbacks.keep(concept_files.step_name(self.plan.name, self.loop.step), self.record())

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


def _write_picture(path: Path, picture: Tensor) -> None:
    try:
        safe_files.write_bytes(path, jpeg(image_of(picture[0])), overwrite=True)
    except OSError as error:  # what is learned goes before its pictures
        logger.warning("%s", error)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
