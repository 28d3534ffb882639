"""The command's options. Standard library only: they are read before anything is prepared."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

STAGES = ("correctness", "speed", "memory", "unloading")


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check.py", description="Measure on a CUDA device what the other tests cannot. See docs/gpu.md."
    )
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE", help=" ".join(STAGES))
    parser.add_argument("--small", action="store_true", help="tiny models and single steps: tests the check itself")
    parser.add_argument("--output", type=Path, default=Path("gpu-check"), metavar="DIR", help="default: gpu-check")
    return parser.parse_args(words)
