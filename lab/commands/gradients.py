"""How near CoRe fast's attention gradient is to CoRe's, over a training with CoRe.

Trains concepts of the mini world with CoRe, and at every few steps compares the gradient of L_attn on v, of the same
draws: CoRe's, CoRe fast's, and CoRe's of one picture of the batch alone. Writes a CSV and prints means.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concepts", nargs="+", default=["striped-cat", "striped-vase"], metavar="NAME")
    parser.add_argument("--steps", type=int, default=100, help="of each training; default: %(default)s")
    parser.add_argument("--every", type=int, default=10, help="steps between comparisons; default: %(default)s")
    parser.add_argument("--draws", type=int, default=6, help="in each comparison; default: %(default)s")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "gradients", help="ComfyUI's folders")
    parser.add_argument("--results", type=Path, default=ROOT / "lab" / "speed" / "results" / "gradients.csv")


def run(given: argparse.Namespace) -> None:
    from ..gradients import compare_all

    compare_all(given)
