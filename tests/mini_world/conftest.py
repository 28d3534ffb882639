"""The package `mini_world`."""

from __future__ import annotations

from preparation.by_place import ROOT, load_package

load_package("mini_world", ROOT / "mini_world")
