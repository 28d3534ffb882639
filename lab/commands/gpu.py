"""What only a card shows; started by scripts/gpu_check.py, which prepares less. See docs/gpu.md."""

from __future__ import annotations

import argparse
from pathlib import Path

STAGES = ("correctness", "speed", "memory", "unloading")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE", help=" ".join(STAGES))
    parser.add_argument("--small", action="store_true", help="tiny models and single steps: tests the check itself")
    parser.add_argument("--output", type=Path, default=Path("gpu-check"), metavar="DIR", help="default: gpu-check")


def run(given: argparse.Namespace) -> int:
    from ..gpu.check import check

    return check(given)
