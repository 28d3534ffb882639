"""The pack, loaded as ComfyUI loads it, as `core_personalization`; this needs no ComfyUI."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = str(ROOT / "scripts")


def load_pack() -> None:
    if SCRIPTS not in sys.path:
        sys.path.append(SCRIPTS)
    from preparation.by_place import load_package

    load_package("core_personalization", ROOT)
