"""What is there already of a training: its finished files, which are used again, or the state of one that stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core_ops.quoting import quoted
from ..files import concept_files, file_metadata, safe_files
from ..files.concept_files import picture_beside, read_picture
from ..host.models.host_models import HostModels
from ..host.models.identity import same_model
from .concept_preview import references
from .loss_chart import loss_chart

GO_ON, ANEW = "go on where it stopped", "anew"
FREE_TO_CHANGE = {
    "steps", "overwrite", "start", "save_every", "clear_steps", "preview_every", "preview_prompts", "preview_negative",
    "preview_steps", "preview_guidance", "preview_size", "gradient_checkpointing", "fused_backward",
    "checkpointing_levels", "offload",
}  # fmt: skip
"""Settings that a training that goes on may have other values of."""
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
            found.update(part.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class MadeOf:
    """settings: of a training node, those that say what is learned. parts: digests of the rest that does, by name."""

    settings: Mapping[str, Any]
    parts: Mapping[str, str]

    @classmethod
    def given(cls, host: HostModels, settings: Any, unread: Sequence[str], **parts: str) -> MadeOf:
        """Of a node's settings and models. unread: settings that decide nothing. parts: digests, `_` for a space."""
        own = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name not in unread}
        named = {name.replace("_", " "): value for name, value in parts.items()}
        return cls(own, {**host.digests(), **named})

    @classmethod
    def read(cls, entries: Mapping[str, Any]) -> MadeOf | None:
        """As a card or a state says it; None where that says nothing of the kind."""
        settings, parts = entries.get("settings"), entries.get("made_of")
        return cls(settings, parts) if isinstance(settings, dict) and isinstance(parts, dict) else None

    def differences(self, now: MadeOf, free: set[str]) -> list[str]:
        """What was other than it is now, in words. free: settings that are not looked at."""
        found: list[str] = []
        changed = {
            name for name in now.settings.keys() - free if self.settings.get(name, _MISSING) != now.settings[name]
        }
        for name in (name for name in now.settings if name in changed):
            before, after = (json.dumps(of.settings.get(name, "none")).replace('"', "'") for of in (self, now))
            short = max(len(before), len(after)) <= LONGEST_SHOWN
            found.append(f"{name} {before} (now {after})" if short else f"another {name}")
        for part in now.parts:
            if not same_model(self.parts.get(part, ""), now.parts[part]) and not DECIDED_BY.get(part, set()) & changed:
                found.append(f"other {part}" if part.endswith("s") else f"another {part}")
        return found


_MISSING = object()


@dataclass(frozen=True)
class Beginning:
    """finished: the training was made before, and its files are there. state: of one that stopped, to go on from."""

    finished: bool = False
    state: Mapping[str, Any] | None = None


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
            self._validate_finished(found, now)
            return Beginning(finished=True)
        if settings.start == ANEW:
            return Beginning()
        return Beginning(state=self._state(settings, now, replaceable=len(found) == len(self.files)))

    def _validate_finished(self, found: Sequence[Path], now: MadeOf) -> None:
        remedy = "choose another name, or switch overwrite on to train anew."
        exists = f"{self.parameter}: {self.kind} {found[0].stem!r} exists already at {found[0]}"
        if missing := [file for file in self.files if file not in found]:
            raise ValueError(f"{exists}, but {missing[0]} is not there; {remedy}")
        for file in found:
            card = MadeOf.read(file_metadata.read_card(file))
            if card is None:
                raise ValueError(f"{exists}, and does not say what it was trained with; {remedy}")
            if differences := card.differences(now, FREE_TO_CHANGE - {"steps"}):
                raise ValueError(f"{exists}, trained with {_listed(differences)}; {remedy}")

    def _state(self, settings: Any, now: MadeOf, replaceable: bool) -> Mapping[str, Any] | None:
        """replaceable: the files of a finished training are there, and may be replaced."""
        state = concept_files.load_state(self.state_name, tensors=False)
        if state is None:
            return None
        before, done = self._read(state), state["loop"]["step"]
        differences = before.differences(now, FREE_TO_CHANGE)
        finished = done >= before.settings.get("steps", done)
        if replaceable and finished and (differences or done >= settings.steps):
            return None
        kept = f"start: a training under {quoted(self.name)} stopped after step {done} and was kept"
        if differences:
            raise ValueError(
                f"{kept}; it was made with {_listed(differences)}. Set that back to go on from there, or choose "
                f"{ANEW!r} to replace it."
            )
        if done > settings.steps:  # all done is well: saving may have failed
            raise ValueError(f"{kept}; set steps to that or more, or choose {ANEW!r} to replace it.")
        return concept_files.load_state(self.state_name)

    def _read(self, state: Mapping[str, Any]) -> MadeOf:
        """Raises ValueError unless a state has the parts that a run saves; the loop looks at its own."""
        before = MadeOf.read(state)
        loop, losses, steady = (state.get(key) for key in ("loop", "losses", "steady_steps"))
        curves = [*losses.values(), steady] if isinstance(losses, dict) else [None]
        if (
            before is None
            or not isinstance(loop, dict)
            or type(loop.get("step")) is not int
            or loop["step"] < 0
            or type(before.settings.get("steps", 0)) is not int
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

    def preview(self, pixels: Tensor) -> Tensor:
        """[1, H, W, 3]; of a training without, some of the pictures [I, 3, S, S]."""
        drawn = read_picture(picture_beside(self.path))
        return references(pixels) if drawn is None else drawn

    def summary(self, name: str, phrase: str) -> str:
        """Lines for the node. phrase: what the user writes in prompts."""
        return "\n".join(
            [
                f"{name}: trained before with the same pictures and settings; loaded.",
                f"Write {phrase} in any prompt.",
                f"{self.path.name}: {self.card.get('steps_done')} steps",
            ]
        )
