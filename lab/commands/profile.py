"""Where a step's time goes, by torch.profiler.

Prints the operators by the time they took themselves, and the sums of their kinds. Subjects are those of the speed
benchmark: ours:WORK, peers:WORK and core_nodes:WORK; one of the peers needs what ours hands to it, so ours is built
first. --trace writes a file for chrome://tracing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .speed import add_shape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subject", default="ours:core", metavar="WHO:WORK")
    add_shape(parser)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rows", type=int, default=25, help="operators in the table (default: 25)")
    parser.add_argument("--trace", type=Path, metavar="FILE")


def run(given: argparse.Namespace) -> None:
    from ..speed.profile import profile

    profile(given)
