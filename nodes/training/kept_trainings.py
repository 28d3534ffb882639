"""What is there already of a training: its finished files, which are used again, or the state of one that stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core_ops.pictures import Pictures
from ...core_ops.quoting import quoted
from ...core_ops.training.steady_loss import MOST_SAMPLES
from ..files import concept_files, file_metadata, safe_files
from ..files.concept_files import picture_beside, read_picture
from ..host.models.host_models import HostModels, same_model
from .concept_preview import references
from .loss_chart import loss_chart

if TYPE_CHECKING:
    from .session import Session

GO_ON, ANEW = "go on where it stopped", "anew"
FREE_TO_CHANGE = {
    "steps", "overwrite", "start", "save_every", "clear_steps", "preview_every", "preview_prompts", "preview_negative",
    "preview_steps", "preview_guidance", "preview_size", "gradient_checkpointing", "fused_backward",
    "checkpointing_levels", "offload",
}  # fmt: skip
"""Settings that say nothing of what is learned."""
GOES_ON_WITH = {
    "learning_rate", "embedding_rate", "text_encoder_rate", "batch_size", "regularization_batch",
    "gradient_accumulation", "max_gradient_norm",
}  # fmt: skip
"""Settings that a training that goes on may have other values of from there on."""
DECIDED_BY = {
    "pictures": {"resolution", "fit", "use_masks"},
    "class images": {"resolution", "fit"},
    "captions": {"method", "caption_template", "class_caption", "prompt_set", "own_prompts"},
}
"""What differs because a setting does, which is said already."""
LONGEST_SHOWN = 40


def digest(*parts: str | Tensor | None) -> str:
    """SHA-256 in hex of texts and tensors."""
    found = hashlib.sha256()
    for part in parts:
        if part is None or isinstance(part, str):
            found.update(json.dumps(part).encode())
        else:
            found.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class MadeOf:
    """settings: of a training node, those that say what is learned. parts: digests of the rest that does, by name.
    defaults: of settings, which a training had before there was an input for them.
    """

    settings: Mapping[str, Any]
    parts: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def given(cls, host: HostModels, settings: Any, unread: Sequence[str], **parts: str) -> MadeOf:
        """Of a node's settings and models. unread: settings that decide nothing. parts: digests, `_` for a space."""
        deciding = [field for field in fields(settings) if field.name not in unread]
        own = {field.name: getattr(settings, field.name) for field in deciding}
        named = {name.replace("_", " "): value for name, value in parts.items()}
        return cls(own, {**host.digests(), **named}, {field.name: field.default for field in deciding})

    @classmethod
    def read(cls, entries: Mapping[str, Any]) -> MadeOf | None:
        """As a card or a state says it; None where that says nothing of the kind."""
        settings, parts = entries.get("settings"), entries.get("made_of")
        return cls(settings, parts) if isinstance(settings, dict) and isinstance(parts, dict) else None

    def differences(self, now: MadeOf, free: set[str]) -> list[str]:
        """What was other than it is now, in words. free: settings that are not looked at."""
        found: list[str] = []
        were = {name: self.settings.get(name, now.defaults.get(name)) for name in now.settings}
        changed = {name for name in now.settings.keys() - free if were[name] != now.settings[name]}
        for name in (name for name in now.settings if name in changed):
            before, after = (json.dumps(of[name]).replace('"', "'") for of in (were, now.settings))
            short = max(len(before), len(after)) <= LONGEST_SHOWN
            found.append(f"{name} {before} (now {after})" if short else f"another {name}")
        for part in {**now.parts, **self.parts}:
            same = _same_part(self.parts.get(part, ""), now.parts.get(part, ""))
            if not same and not DECIDED_BY.get(part, set()) & changed:
                found.append(f"other {part}" if part.endswith("s") else f"another {part}")
        return found


def _same_part(before: str, now: str) -> bool:
    """Of a model's fingerprint, or of one or two digests, the first of them as earlier versions of the pack had it."""
    if len(now.split()) > 2:
        return same_model(before, now)
    one, other = before.split() or [""], now.split() or [""]
    return one[-1] == other[-1] if len(one) == len(other) else one[0] == other[0]


def together(concepts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Parts of `MadeOf` of each of a training's concepts as those of the training; of one alone they are its own."""
    if len(concepts) == 1:
        return dict(concepts[0])
    names = dict.fromkeys(name for each in concepts for name in each)
    return {name: digest(*(each.get(name, "").split(" ")[-1] for each in concepts)) for name in names}


@dataclass(frozen=True)
class Beginning:
    """finished: the training was made before, and its files are there. state: of one that stopped, to go on from.

    replaces: files of that name are there, which it will replace. made_with: what those were made with that is other
    now, in words.
    """

    finished: bool = False
    state: dict[str, Any] | None = None
    replaces: bool = False
    made_with: Sequence[str] = ()

    def resume(self, session: Session) -> None:
        """Hands the state over, if there is one: a second copy would stay in main memory until the training ends."""
        session.resume(self.state)
        if self.state is not None:
            self.state.clear()

    @property
    def steady_samples(self) -> int | None:
        """Of the steady loss that the training began with, if it goes on."""
        return self.state.get("steady_samples") if self.state else None

    @property
    def said(self) -> str | None:
        """How a training begins that replaces files; None for one that replaces none."""
        if not self.replaces:
            return None
        if self.state is not None:
            return f"it goes on after step {self.state['loop']['step']}"
        if self.made_with:
            return f"it begins anew (that was made with {_listed(self.made_with)})"
        return "it begins anew"


@dataclass(frozen=True)
class Kept:
    """parameter: the input that names the training. kind: of what it writes, in words. files: all of them."""

    parameter: str
    name: str
    kind: str
    files: Sequence[Path]
    state_name: str

    def beginning(self, settings: Any, now: MadeOf) -> Beginning:
        """How a training with these inputs begins. Raises ValueError where it would replace what was kept."""
        found = [file for file in map(safe_files.taken, self.files) if file is not None]
        if found and not settings.overwrite:
            left = self._left_by(found, now)
            if left and len(found) < len(self.files) and settings.start != ANEW:
                return Beginning(state=concept_files.load_state(self.state_name), replaces=True)
            self._validate_finished(found, now)
            if left and (settings.clear_steps or not settings.save_every):
                concept_files.remove_state(self.state_name)
            return Beginning(finished=True)
        if settings.start == ANEW:
            return Beginning(replaces=bool(found))
        state = self._state(settings, now, replaceable=len(found) == len(self.files))
        made_with = self._differences(found, now) if state is None else ()
        return Beginning(state=state, replaces=bool(found), made_with=made_with)

    def _differences(self, found: Sequence[Path], now: MadeOf) -> list[str]:
        """Of what was written before from this training, as far as it says so."""
        card = MadeOf.read(file_metadata.read_card(found[0])) if found else None
        return card.differences(now, FREE_TO_CHANGE) if card else []

    def _validate_finished(self, found: Sequence[Path], now: MadeOf) -> None:
        remedy = "choose another name, or switch overwrite on to train anew."
        exists = f"{self.parameter}: {self.kind} '{found[0].stem}' exists already at {found[0]}"
        if missing := [file for file in self.files if file not in found]:
            raise ValueError(f"{exists}, but {missing[0]} is not there; {remedy}")
        for file in found:
            card = MadeOf.read(file_metadata.read_card(file))
            if card is None:
                raise ValueError(f"{exists}, and does not say what it was trained with; {remedy}")
            if differences := card.differences(now, FREE_TO_CHANGE - {"steps"}):
                raise ValueError(f"{exists}, trained with {_listed(differences)}; {remedy}")

    def _left_by(self, found: Sequence[Path], now: MadeOf) -> bool:
        """Whether this training wrote these files, and left a state with all its steps: it stopped after that, such as
        in writing another file, or in the last preview."""
        cards = [file_metadata.read_card(file) for file in found]
        try:
            state = concept_files.load_state(self.state_name, tensors=False) or {}
            made = [self._read(state), *map(MadeOf.read, cards)]
        except ValueError:  # of something else, or none
            return False
        if not state.get("unsaved") or state["loop"]["step"] != now.settings["steps"]:
            return False
        same = all(each and not each.differences(now, FREE_TO_CHANGE - {"steps"}) for each in made)
        return same and all(card.get("went_on", []) == state.get("went_on", []) for card in cards)

    def _state(self, settings: Any, now: MadeOf, replaceable: bool) -> dict[str, Any] | None:
        """replaceable: the files of a finished training are there, and may be replaced."""
        state = concept_files.load_state(self.state_name, tensors=False)
        if state is None:
            return None
        before, done = self._read(state), state["loop"]["step"]
        differences = before.differences(now, FREE_TO_CHANGE)
        decisive = before.differences(now, FREE_TO_CHANGE | GOES_ON_WITH)
        finished = done >= before.settings.get("steps", done) and not state.get("unsaved")
        if replaceable and finished and (differences or done >= settings.steps):
            return None
        kept = f"start: a training under {quoted(self.name)} stopped after step {done} and was kept"
        if decisive:
            raise ValueError(
                f"{kept}; it was made with {_listed(decisive)}. Set that back to go on from there, or choose "
                f"{ANEW!r} to replace it."
            )
        if done > settings.steps:  # all done is well: saving may have failed
            raise ValueError(f"{kept}; set steps to that or more, or choose {ANEW!r} to replace it.")
        state = dict(concept_files.load_state(self.state_name) or {})
        if differences:
            state["went_on"] = [*state.get("went_on", []), f"after step {done}, made with {_listed(differences)}"]
        return state

    def _read(self, state: Mapping[str, Any]) -> MadeOf:
        """Raises ValueError unless a state has the parts that a run saves; the loop looks at its own."""
        before = MadeOf.read(state)
        loop, losses, steady = (state.get(key) for key in ("loop", "losses", "steady_steps"))
        curves = [*losses.values(), steady] if isinstance(losses, dict) else [None]
        went_on = state.get("went_on", [])
        if (
            before is None
            or not isinstance(loop, dict)
            or type(loop.get("step")) is not int
            or loop["step"] < 0
            or type(before.settings.get("steps", 0)) is not int
            or type(state.get("steady_samples", MOST_SAMPLES)) is not int
            or not 0 < state.get("steady_samples", MOST_SAMPLES) <= MOST_SAMPLES
            or not (isinstance(went_on, list) and all(isinstance(text, str) for text in went_on))
            or not all(isinstance(curve, list) and all(type(v) in (int, float) for v in curve) for curve in curves)
        ):
            raise ValueError(
                f"start: what was kept under {quoted(self.name)} is not a state that this node saved; choose {ANEW!r}."
            )
        return before


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


@dataclass(frozen=True)
class FinishedTraining:
    """What a training left beside what it learned. path: of its file. card: what that says; its curves are thinned."""

    path: Path
    card: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> FinishedTraining:
        return cls(path, file_metadata.read_card(path))

    @property
    def losses(self) -> Mapping[str, list[float]]:
        return self.card.get("curves", {})

    def chart(self) -> Tensor:
        """[1, H, W, 3]."""
        return loss_chart(self.losses, self.card.get("steady_steps", []), self.card.get("steps_done", 1))

    def preview(self, pictures: Pictures) -> Tensor:
        """[1, H, W, 3]; of a training without, some of the pictures."""
        drawn = read_picture(picture_beside(self.path))
        return references(pictures) if drawn is None else drawn

    def summary(self, name: str, phrase: str, *more: str) -> str:
        """Lines for the node. phrase: what the user writes in prompts."""
        return "\n".join(
            [
                f"{name}: trained before with the same pictures and settings; loaded.",
                f"Write {phrase} in any prompt.",
                f"{self.path.name}: {self.card.get('steps_done')} steps",
                *more,
            ]
        )
