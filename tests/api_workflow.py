"""Workflows in the form that the server runs, written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.client import Workflow


def with_defaults(workflow: Workflow, schema: Mapping[str, Any]) -> Workflow:
    """With the inputs that a node was not given, as the editor would send them. schema: the server's /object_info."""
    for node in workflow.values():
        for name, (kind, *options) in schema[node["class_type"]]["input"].get("required", {}).items():
            if name not in node["inputs"] and options and "default" in options[0]:
                node["inputs"][name] = options[0]["default"]
            elif name not in node["inputs"] and kind == "COMBO":
                node["inputs"][name] = options[0]["options"][0]
    return workflow
