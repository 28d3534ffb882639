"""The package `mini_world`, and those of the benchmarks: `on_gpu`, `quality` and `speed`."""

from __future__ import annotations

from preparation.by_place import ROOT, load_package

load_package("mini_world", ROOT / "mini_world")
load_package("on_gpu", ROOT / "benchmarks" / "on_gpu")
load_package("quality", ROOT / "benchmarks" / "quality")
load_package("speed", ROOT / "benchmarks" / "speed")
