"""What measures the pack: a world of drawn pictures, quality, speed, memory, and the check on a card.

python -m lab --help
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# "python -m lab" puts the repository's root first on the path, and so our folder "nodes" before ComfyUI's nodes.py: it
# goes last. What prepares a ComfyUI lies in scripts, and the small models of random weights in tests.
_roots = [entry for entry in sys.path if Path(entry or ".").resolve() == ROOT]
_folders = [folder for folder in (str(ROOT / "scripts"), str(ROOT / "tests")) if folder not in sys.path]
sys.path[:] = [*(entry for entry in sys.path if entry not in _roots), *_folders, *_roots]
