"""What ComfyUI and the nodes themselves say of a workflow, without running any of it.

ComfyUI looks through a workflow when it is queued, and has no other way to ask. So it gets the workflow with something
missing at every node that it could be asked to run: it refuses the whole, and says all else that is wrong.
"""

from __future__ import annotations

import copy
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .jobs import Schema, Workflow

OWN = ("required_input_missing",)
"""Kinds of errors that come of what was taken out."""


def refusals(address: str, workflow: Workflow, schema: Schema) -> list[tuple[str, str]]:
    """Node ids and messages. First without the cables into its outputs, whose own values are then looked at; then
    without those, and all that leads to them is.
    """
    found: dict[tuple[str, str], None] = {}
    for linked in (True, False):
        asked, taken = _incomplete(workflow, schema, linked)
        if taken:
            found |= dict.fromkeys(_errors(_refused(address, asked, sorted(taken)), set() if linked else taken))
    return list(found)


def _incomplete(workflow: Workflow, schema: Schema, linked: bool) -> tuple[Workflow, set[str]]:
    """Without the required inputs of output nodes that come by a cable, or without the others; and which nodes."""
    changed, taken = copy.deepcopy(workflow), set()
    for number, node in changed.items():
        declared = schema[node["class_type"]]
        if declared["output_node"]:
            required = [name for name in declared["input"].get("required", {}) if name in node["inputs"]]
            out = [name for name in required if isinstance(node["inputs"][name], list) == linked]
            taken |= {number} if out else set()
            for name in out:
                del node["inputs"][name]
    return changed, taken


def _refused(address: str, workflow: Workflow, targets: Sequence[str]) -> Mapping[str, Any]:
    body = json.dumps({"prompt": workflow, "partial_execution_targets": targets}).encode()
    request = urllib.request.Request(f"http://{address}/prompt", body, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        return json.loads(error.read()).get("node_errors", {}) if error.code == 400 else {}
    raise AssertionError("ComfyUI took a workflow with inputs missing")


def _errors(by_node: Mapping[str, Any], unheeded: set[str]) -> Iterator[tuple[str, str]]:
    for number, node in by_node.items():
        for error in node["errors"]:
            if error["type"] not in OWN and number not in unheeded:
                yield number, error["details"] or error["message"]
