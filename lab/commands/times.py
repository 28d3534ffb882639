"""Processor time until an embedding is as good as CoRe's published schedule leaves it, on the mini world.

Run again, it goes on where it stopped. `--report` needs nothing but the CSV file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import ROOT

CONCEPTS = ("striped-cat", "striped-vase")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "quality" / "times", help="embeddings")
    results = ROOT / "lab" / "quality" / "results"
    parser.add_argument("--results", type=Path, default=results, help="CSV file and table")
    parser.add_argument("--concept", action="append", metavar="NAME", help=f"by default {', '.join(CONCEPTS)}")
    parser.add_argument("--report", action="store_true", help="only the table, from the CSV file")


def run(given: argparse.Namespace) -> None:
    from ..quality import times

    times.report(given.results) if given.report else times.run(given.folder, given.results, given.concept or CONCEPTS)
