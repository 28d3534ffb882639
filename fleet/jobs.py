"""Jobs: the workflow with a row's values in it, checked against what the running ComfyUI says of its nodes."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .job_list import Fault, JobList, Row, shown

Workflow = dict[str, Any]
Schema = Mapping[str, Any]
"""ComfyUI's /object_info."""
MOST_OPTIONS = 8
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Place:
    """An input of the workflow. declared: its type, or its options, and what limits it."""

    node: str
    name: str
    kind: Any
    limits: Mapping[str, Any]


SAVE_EVERY = "save_every"
"""The trainings' input that says how often they keep a state; it changes nothing of what is learned."""


@dataclass(frozen=True)
class Job:
    """workflow: in the form that the server runs. inputs: by column, as they were set.

    read: digests of the files that it names in ComfyUI's input folder.
    """

    name: str
    row: int
    inputs: Mapping[str, Any]
    workflow: Workflow
    read: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """Of all that says what comes out: not of a node's title, nor of when a training keeps its state."""
        nodes = {
            key: {**node, "_meta": None, "inputs": {**node.get("inputs", {}), SAVE_EVERY: None}}
            for key, node in self.workflow.items()
        }
        content = json.dumps([nodes, dict(self.read)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def places(columns: tuple[str, ...], workflow: Workflow, schema: Schema, faults: list[Fault]) -> dict[str, Place]:
    """By column, the input that it names; what names none is a fault of the first row."""
    found = {}
    for column in columns:
        place = _place(column, workflow, schema)
        if isinstance(place, str):
            faults.append(Fault(1, column, place))
        else:
            found[column] = place
    by_place: dict[tuple[str, str], str] = {}
    for column, place in found.items():
        other = by_place.setdefault((place.node, place.name), column)
        if other != column:
            faults.append(Fault(1, column, f"is the same input as column {shown(other)}"))
    return found


def _place(column: str, workflow: Workflow, schema: Schema) -> Place | str:
    """Or what is wrong."""
    title, dot, name = column.rpartition(".")
    if not dot:
        return "is no input; write the node's title or id, a dot and the input's name"
    nodes = [title] if title in workflow else [i for i, node in workflow.items() if _title(node) == title]
    if not nodes:
        return f"there is no node {shown(title)} in the workflow{_like(title, map(_title, workflow.values()))}"
    if len(nodes) > 1:
        return f"{len(nodes)} nodes are called {shown(title)}; write an id in place of it: {', '.join(nodes)}"
    node = workflow[nodes[0]]
    inputs = _inputs(node, schema)
    if name not in inputs:
        return f"the node {shown(title)} has no input {shown(name)}{_like(name, inputs)}"
    if isinstance(node["inputs"].get(name), list):
        return "is fed by another node in this workflow"
    kind, *rest = inputs[name]
    limits = rest[0] if rest else {}
    options = kind if isinstance(kind, list) else limits.get("options") if kind == "COMBO" else None
    if options is None and kind not in _READERS:
        return f"takes what another node makes ({kind}), not a value"
    return Place(nodes[0], name, kind if options is None else options, limits)


def _title(node: Mapping[str, Any]) -> str:
    return node.get("_meta", {}).get("title") or node["class_type"]


def _like(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {shown(close[0])}?" if close else ""


def with_row(row: Row, found: Mapping[str, Place], workflow: Workflow, texts: bool, faults: list[Fault]) -> Job:
    """texts: the row's values are texts, whatever they mean."""
    changed, inputs = copy.deepcopy(workflow), {}
    for column, given in row.given.items():
        if place := found.get(column):
            try:
                value = _value(given, place, texts)
            except ValueError as error:
                faults.append(Fault(row.number, column, str(error)))
            else:
                inputs[column] = changed[place.node]["inputs"][place.name] = value
    return Job(row.name, row.number, inputs, changed, {})


def _value(given: Any, place: Place, texts: bool) -> Any:
    """Raises ValueError."""
    if isinstance(place.kind, list):
        return _option(given, place.kind, texts)
    value = _READERS[place.kind](given, texts)
    low, high = place.limits.get("min"), place.limits.get("max")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if low is not None and value < low:
            raise ValueError(f"{shown(given)} is less than {low}")
        if high is not None and value > high:
            raise ValueError(f"{shown(given)} is more than {high}")
    return value


def _option(given: Any, options: list[Any], texts: bool) -> Any:
    for option in options:
        if given == option or (texts and given == str(option)):
            return option
    if not options:
        raise ValueError(f"{shown(given)} is not there: there is nothing to choose from")
    listed = ", ".join(map(shown, options[:MOST_OPTIONS])) + (", …" if len(options) > MOST_OPTIONS else "")
    raise ValueError(f"{shown(given)} is none of {listed}{_like(str(given), map(str, options))}")


def _integer(given: Any, texts: bool) -> int:
    try:
        return int(given) if texts else _exactly(int, given)
    except ValueError:
        raise ValueError(f"{shown(given)} is no whole number") from None


def _number(given: Any, texts: bool) -> float:
    try:
        value = float(given) if texts else float(_exactly((int, float), given))
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{shown(given)} is no number")
    return value


def _truth(given: Any, texts: bool) -> bool:
    value = _TRUTH.get(given.strip().lower()) if texts else given
    if not isinstance(value, bool):
        raise ValueError(f"{shown(given)} is neither true nor false")
    return value


def _text(given: Any, texts: bool) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{shown(given)} is no text")
    if not given.isascii() and given.encode("utf-8", "replace").decode() != given:
        raise ValueError(f"{shown(given)} holds half a character")
    return given


def _exactly(kind: Any, given: Any) -> Any:
    if not isinstance(given, kind) or isinstance(given, bool):
        raise ValueError
    return given


_READERS = {"INT": _integer, "FLOAT": _number, "BOOLEAN": _truth, "STRING": _text}


def checked_jobs(
    listed: JobList, workflow: Workflow, schema: Schema
) -> tuple[list[Job], dict[str, Place], list[Fault]]:
    """A job for each row, the inputs by column, and all faults that schema and list show."""
    faults = list(listed.faults)
    found = places(listed.columns, workflow, schema, faults)
    jobs = [with_row(row, found, workflow, listed.texts, faults) for row in listed.rows]
    return jobs, found, sorted(faults, key=lambda fault: (fault.row or 0, fault.column or ""))


def keeping_states(workflow: Workflow, schema: Schema, every: int) -> Workflow:
    """With a state saved every so many steps by trainings that save none: what a killed worker's job goes on from."""
    changed = copy.deepcopy(workflow)
    for node in changed.values():
        if SAVE_EVERY in _inputs(node, schema) and node["inputs"].get(SAVE_EVERY) == 0:
            node["inputs"][SAVE_EVERY] = every
    return changed


def _inputs(node: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """As ComfyUI declares them, by name."""
    declared = schema[node["class_type"]]["input"]
    return {**declared.get("required", {}), **declared.get("optional", {})}
