"""The package `mini_world`, loaded by its place: the repository root must stay off the path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "mini_world"

if "mini_world" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "mini_world", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec and spec.loader
    sys.modules["mini_world"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["mini_world"])
