"""The packages `mini_world` and `quality` (benchmarks/quality)."""

from __future__ import annotations

from by_place import ROOT, load_package

load_package("mini_world", ROOT / "mini_world")
load_package("quality", ROOT / "benchmarks" / "quality")
