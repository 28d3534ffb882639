"""The pack, loaded as ComfyUI loads it, under the name `core_personalization`; and the tiers.

from core_personalization.core_ops.losses import context_embedding_loss
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOST_TESTS = ROOT / "tests" / "host"
PACK_NAME = "core_personalization"

# "python -m pytest" puts the working folder on the path, and so our folder "nodes" before ComfyUI's nodes.py.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


def load_pack() -> None:
    spec = importlib.util.spec_from_file_location(
        PACK_NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    pack = importlib.util.module_from_spec(spec)
    sys.modules[PACK_NAME] = pack
    spec.loader.exec_module(pack)


load_pack()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HOST_TESTS):
            item.add_marker(pytest.mark.host)
    left_out = {"long"} if "long" not in config.option.markexpr else set()
    if any(item.get_closest_marker("gpu") for item in items) and not has_cuda():
        left_out.add("gpu")
    dropped = [item for item in items if left_out & {marker.name for marker in item.iter_markers()}]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
