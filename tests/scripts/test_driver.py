"""The driver's parts that need no server."""

from __future__ import annotations

import io
import socket

import pytest
from driver.progress_lines import ProgressLines
from driver.server import HOST, claim_port
from preparation.errors import PreparationError


def test_a_taken_port_is_refused_with_the_remedy():
    with socket.socket() as holder:
        holder.bind((HOST, 0))
        holder.listen()
        with pytest.raises(PreparationError, match=r"Port \d+ is taken.*--comfyui-port"):
            claim_port(holder.getsockname()[1])


def test_zero_finds_a_free_port():
    port = claim_port(0)
    assert port and claim_port(port) == port


def messages(node: str, values: list[int], maximum: int) -> list[dict]:
    progress = [{"type": "progress", "data": {"node": node, "value": value, "max": maximum}} for value in values]
    return [{"type": "executing", "data": {"node": node}}, *progress, {"type": "executing", "data": {"node": None}}]


def test_a_file_gets_a_line_per_tenth():
    stream = io.StringIO()
    lines = ProgressLines({"1": {"class_type": "KSampler", "_meta": {"title": "Draw it"}}}, stream)
    for message in messages("1", list(range(101)), 100):
        lines(message)
    written = stream.getvalue().splitlines()
    assert len(written) == 10 and all("Draw it" in line for line in written)
    assert "left" in written[0] and "100%" in written[-1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_that_moves():
    stream = Terminal()
    lines = ProgressLines({}, stream)
    for message in messages("7", [1, 2, 3], 4):
        lines(message)
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().count("\r") == 4
