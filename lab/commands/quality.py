"""The papers' methods compared on the mini world: trainings, pictures, scores, table and chart.

Run again, it goes on where it stopped. `report` needs nothing but the CSV files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import ROOT

STAGES = ("run", "score", "report")
PROTOCOLS = ("evidence", "search", "embedded", "strength", "quick_start", "coat", "captions", "methods", "smoke")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    help_of_stages = f"of {', '.join(STAGES)}; all of them by default"
    parser.add_argument("stages", nargs="*", type=_stage, metavar="stage", help=help_of_stages)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="evidence")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "quality", help="pictures and embeddings")
    results = ROOT / "lab" / "quality" / "results"
    parser.add_argument("--results", type=Path, default=results, help="CSV files and table")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="chart and pictures")
    parser.add_argument(
        "--concept", action="append", metavar="NAME", help="train for this one only: processes can share the work"
    )
    parser.add_argument("--method", action="append", metavar="NAME", help="train by this one only")
    parser.add_argument(
        "--references", action="append", metavar="KIND", help="train with this kind only: biased, diverse"
    )
    parser.add_argument("--seed", action="append", type=int, metavar="N", help="train with this seed only")
    said = "spread the concepts over a cluster of Ray's, as in docs/fleet.md: local, auto, ray://HOST:10001"
    parser.add_argument("--address", help=said)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further training after so long")


def run(given: argparse.Namespace) -> None:
    from ..quality.pipeline import run_stages

    run_stages(given, given.stages or STAGES)


def _stage(name: str) -> str:
    if name not in STAGES:
        raise argparse.ArgumentTypeError(f"no such stage: {name}; choose of {', '.join(STAGES)}")
    return name
