"""The benchmark's concepts over a fleet's workers; what a dead one had goes to another."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("ray")

from preparation.errors import PreparationError
from ray.exceptions import RayActorError, RayTaskError

from fleet.pool import Ended, Share
from lab.quality import spread
from lab.quality.bench import MiniWorld
from lab.quality.protocol import PROTOCOLS

BENCH = MiniWorld()
PROTOCOL = replace(PROTOCOLS["smoke"], concepts=("patchwork-dog", "dotted-teapot", "striped-cat"))


@pytest.fixture
def given(monkeypatch, tmp_path) -> dict[str, Any]:
    """What the workers were made with and given to do. script: what comes of each item, in turn; None is done."""
    seen: dict[str, Any] = {"items": [], "script": {}}

    class Scripted:
        def __init__(self, actors: list[Any], items: list[str]) -> None:
            self.items, seen["actors"] = deque(items), actors

        def run(self) -> Any:
            while self.items:
                item = self.items.popleft()
                seen["items"].append(item)
                yield Ended(item, 0, next(iter(seen["script"].get(item, [])), None))
                seen["script"][item] = seen["script"].get(item, [])[1:]

    monkeypatch.setattr(spread, "Pool", Scripted)
    monkeypatch.setattr(spread, "connect", lambda address: seen.update(address=address))
    monkeypatch.setattr(spread.ray, "shutdown", lambda: seen.update(shut=True))
    monkeypatch.setattr(Share, "found", lambda: Share(0, 1))
    monkeypatch.setattr(Share, "workers", lambda self: 8)
    monkeypatch.setattr(Share, "actors", lambda self, kind, count, *more: [(kind, more)] * count)
    monkeypatch.setattr(
        spread, "missing", lambda bench, protocol, folder: [c for c in protocol.concepts if c != "striped-cat"]
    )
    monkeypatch.setenv("COMFYUI_PATH", "comfyui")
    return seen


def test_concepts_that_are_not_done_are_spread_and_given_back(given, tmp_path):
    given["script"] = {"patchwork-dog": [RayActorError(), RayActorError()]}
    spread.spread(BENCH, PROTOCOL, tmp_path, 1.0, "auto")
    assert given["items"] == ["patchwork-dog", "dotted-teapot", "patchwork-dog", "patchwork-dog"]
    assert len(given["actors"]) == 2 and given["address"] == "auto" and given["shut"]
    assert given["actors"][0] == (spread.CellWorker, ("comfyui", BENCH, PROTOCOL, tmp_path.resolve(), 1.0))


def test_a_concept_that_fails_ends_it_with_its_message(given, tmp_path):
    given["script"] = {"patchwork-dog": [RayTaskError("run", "traceback", ValueError("no such method"))]}
    with pytest.raises(PreparationError, match="patchwork-dog: no such method"):
        spread.spread(BENCH, PROTOCOL, tmp_path, 1.0, "auto")
    assert given["shut"]


def test_where_all_is_done_no_worker_is_asked_for(given, tmp_path):
    spread.spread(BENCH, replace(PROTOCOL, concepts=("striped-cat",)), tmp_path, 1.0, "auto")
    assert "address" not in given
