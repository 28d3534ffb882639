"""Many jobs of one workflow on many machines, on Ray: python -m fleet --help"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# As in lab: what prepares and drives a ComfyUI lies in scripts, and the root, with our folder "nodes", goes last.
_roots = [entry for entry in sys.path if Path(entry or ".").resolve() == ROOT]
_folders = [folder for folder in (str(ROOT / "scripts"),) if folder not in sys.path]
sys.path[:] = [*(entry for entry in sys.path if entry not in _roots), *_folders, *_roots]
