"""An output that has nothing to give."""

from __future__ import annotations

from comfy_execution.graph_utils import ExecutionBlocker


def blocked(reason: str) -> ExecutionBlocker:
    """In place of an output's value: nodes connected to it do not run, and the user is told the reason."""
    return ExecutionBlocker(reason)
