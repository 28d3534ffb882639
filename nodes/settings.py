"""Node inputs declared once, as fields of a frozen dataclass: default, range and tooltip make schema and validation.

`schema_inputs` turns the fields into ComfyUI inputs; `validated` makes the dataclass of what a node was given.

shows, of a choice, a switch or a socket: {value: names of inputs} that the editor shows with that value alone, since
they do nothing with others (see editor/folding.js). An input that several show needs all of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from comfy_api.latest import io

from ..core_ops.quoting import quoted
from .labels import LABELS

Shown = Mapping[str, Sequence[str]]
Settings = TypeVar("Settings")
_KEY, _SHOWS = "input", "shows"
NO_FILE = "none"
_KINDS: dict[type, tuple[Any, str]] = {
    io.Int.Input: (int, "a whole number"),
    io.Float.Input: ((int, float), "a number"),
    io.Boolean.Input: (bool, "true or false"),
    io.String.Input: (str, "a text"),
}


def text(default: str, *, help: str, advanced: bool = False, multiline: bool = False) -> Any:
    return _field(io.String, default, help, advanced, multiline=multiline)


def choice(
    options: Sequence[str],
    *,
    help: str,
    advanced: bool = False,
    fills: Mapping[str, Mapping[str, Any]] | None = None,
    shows: Shown | None = None,
    label: str | None = None,
) -> Any:
    """One of `options`; the first is the default.

    fills: per option, values of other inputs that the editor fills in when the user chooses it (see editor/presets.js).
    label: where `LABELS` has another input of this name.
    """
    extra = {name: table for name, table in (("fills", fills), ("shows", shows)) if table is not None}
    return _field(io.Combo, options[0], help, advanced, label=label, options=list(options), extra_dict=extra)


def file(files: Callable[[], Sequence[str]], *, help: str, advanced: bool = False) -> Any:
    """One of what `files` lists at the time, or `NO_FILE`, the default."""
    return _field(io.Combo, NO_FILE, help, advanced, options=lambda: [NO_FILE, *files()])


def integer(default: int, *, low: int, high: int, help: str, advanced: bool = False, **extra: Any) -> Any:
    return _field(io.Int, default, help, advanced, min=low, max=high, **extra)


def number(default: float, *, low: float, high: float, step: float, help: str, advanced: bool = False) -> Any:
    return _field(io.Float, default, help, advanced, min=low, max=high, step=step)


def switch(default: bool, *, help: str, advanced: bool = False, shows: Shown | None = None) -> Any:
    return _field(io.Boolean, default, help, advanced, extra_dict=showing(shows))


def showing(shows: Shown | None) -> dict[str, Any]:
    """`extra_dict` of a switch, whose values are "true" and "false", or a socket, "connected" or "" for nothing."""
    return {} if shows is None else {"shows": shows}


def like(settings: type, name: str) -> Any:
    """The field of another node's settings: the same input, range, default and tooltip."""
    (field,) = (field for field in dataclasses.fields(settings) if field.name == name)
    return dataclasses.field(default=field.default, metadata=field.metadata)


def schema_inputs(settings: type) -> list[io.Input]:
    return [field.metadata[_KEY](field.name) for field in dataclasses.fields(settings)]


def validated(settings: type[Settings], given: Mapping[str, Any]) -> Settings:
    """The settings as given, lists of one unwrapped; raises ValueError naming the input that is out of range.

    The host checks ranges of what a workflow types in, but not of what other nodes compute.
    """
    values = _unwrapped(given)
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        declared = field.metadata[_KEY](field.name)
        _check(field.name, values.get(field.name, field.default), declared)
    return settings(**values)


def unread(settings: Any) -> set[str]:
    """Names of inputs that do nothing with what the others are, as these show them."""
    found: set[str] = set()
    for field in dataclasses.fields(settings):
        shows, value = field.metadata[_SHOWS], getattr(settings, field.name)
        shown = shows.get(str(value).lower() if isinstance(value, bool) else value, ())
        found |= {name for names in shows.values() for name in names}.difference(shown)
    return found


class RefusingNode(io.ComfyNode):
    """A node that is refused when Run is pressed, before anything is loaded, for what its widgets alone show.

    SETTINGS: its dataclass. What comes by a link is None then, and is looked at later.
    """

    SETTINGS: type

    @classmethod
    def refuse(cls, settings: Any) -> None:
        """Raises ValueError for what the settings do not see themselves: names, templates, files."""

    @classmethod
    def validate_inputs(cls, **given: Any) -> bool:
        """Raises ValueError; the host reports a text that is returned once for every input, and shows none of them."""
        fields = {field.name: field for field in dataclasses.fields(cls.SETTINGS)}
        values = {name: value for name, value in _unwrapped(given).items() if name in fields and value is not None}
        for name, value in values.items():
            _check(name, value, fields[name].metadata[_KEY](name))
        if values.keys() == fields.keys():
            cls.refuse(cls.SETTINGS(**values))
        return True


def _unwrapped(given: Mapping[str, Any]) -> dict[str, Any]:
    """The host passes what comes by a link, and is not there yet, as a tuple."""
    return {name: value[0] if isinstance(value, (list, tuple)) and value else value for name, value in given.items()}


def _check(name: str, value: Any, declared: io.Input) -> None:
    kind, called = _KINDS.get(type(declared), (object, ""))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name}: {quoted(value)} is not {called}; give one.")
    if isinstance(declared, io.Combo.Input) and value not in (declared.options or []):
        raise ValueError(
            f"{name}: {quoted(value)} is not one of {', '.join(map(str, declared.options or []))}; choose one."
        )
    if isinstance(declared, io.Int.Input | io.Float.Input):
        low, high = declared.min, declared.max
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"{name}: {quoted(value)} is out of range; give a number from {low} to {high}.")


def _field(kind: Any, default: Any, tooltip: str, advanced: bool, label: str | None = None, **extra: Any) -> Any:
    """extra: of the host's input; what is a function is asked each time that the input is declared."""

    def declare(name: str) -> io.Input:
        called = label or LABELS[name]
        given = {key: value() if callable(value) else value for key, value in extra.items()}
        if given.get("multiline"):
            given["placeholder"] = called
        return kind.Input(
            name, display_name=called, default=default, tooltip=tooltip, advanced=advanced or None, **given
        )

    shows = extra.get("extra_dict", {}).get("shows", {})
    return dataclasses.field(default=default, metadata={_KEY: declare, _SHOWS: shows})
