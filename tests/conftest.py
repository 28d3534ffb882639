"""The pack under the name `core_personalization`, and `lab`; the tiers; and a ComfyUI server.

from core_personalization.core_ops.losses.context_losses import context_embedding_loss
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from preparation.by_place import ROOT, load_package

if TYPE_CHECKING:
    from driver.client import ComfyUIClient
    from driver.server import ComfyUIServer

TESTS = ROOT / "tests"
# By folder: the markers of all tests in it.
TIERS = {
    TESTS / "host": ("host",),
    TESTS / "robustness": ("host",),
    TESTS / "browser": ("host", "browser"),
    TESTS / "gpu": ("host", "gpu"),
}

LONGEST_FIRST = ("robustness", "host", "browser", "lab")
"""Folders whose files several processes take first, so that none of them is left alone with a long one at the end."""

# "python -m pytest" puts the working folder on the path, and so our folder "nodes" before ComfyUI's nodes.py.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

load_package("core_personalization", ROOT)
load_package("lab", ROOT / "lab")
load_package("fleet", ROOT / "fleet")

# A busy machine is no fault of the code's.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for folder, markers in TIERS.items():
            if item.path.is_relative_to(folder):
                for marker in markers:
                    item.add_marker(marker)
    left_out = {"long"} if "long" not in config.option.markexpr else set()
    on_cpu = os.environ.get("TEST_ON_CPU")  # of scripts/test.py: all but the GPU tier take the CPU on every machine
    if any(item.get_closest_marker("gpu") for item in items) and (on_cpu or not has_cuda()):
        left_out.add("gpu")
    dropped = [item for item in items if left_out & {marker.name for marker in item.iter_markers()}]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folder = item.path.relative_to(TESTS).parts[0]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    """ComfyUI's source tree; scripts/test.py names it."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.fail("These tests need ComfyUI. Run them with: python scripts/test.py", pytrace=False)
    return Path(path)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any name looked up, and any address, but this machine's own, fails the test: tests talk to servers on it."""
    here = ("127.0.0.1", "::1", "localhost")

    def only_here(original: Any, host_of: Callable[..., Any]) -> Any:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if host_of(*arguments, **named) not in here:
                pytest.fail(f"the network was asked for: {arguments}")
            return original(*arguments, **named)

        return wrapped

    for name in ("getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, only_here(getattr(socket, name), lambda host, *_, **__: host))
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)
        monkeypatch.setattr(socket.socket, name, only_here(original, lambda _, address: address[0]))


@dataclass(frozen=True)
class RunningServer:
    """A real ComfyUI with this pack as its only custom node. process.base has its folders."""

    process: ComfyUIServer
    client: ComfyUIClient


@pytest.fixture(scope="session")
def server(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    from driver.base_folder import BaseFolder
    from driver.client import ComfyUIClient
    from driver.server import ComfyUIServer

    base = BaseFolder.make(tmp_path_factory.mktemp("server"))
    with ComfyUIServer(comfyui_path, base) as process:
        yield RunningServer(process, ComfyUIClient(process.address))
