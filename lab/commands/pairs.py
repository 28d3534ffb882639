"""Two concepts in one LoRA against a LoRA of each, on the mini world.

`--report` needs nothing but the CSV file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    words = ROOT / "build" / "quality" / "methods"
    parser.add_argument("--folder", type=Path, default=words, help="words, as `quality --protocol methods` leaves them")
    results = ROOT / "lab" / "quality" / "results"
    parser.add_argument("--results", type=Path, default=results, help="CSV file and table")
    parser.add_argument("--report", action="store_true", help="only the table, from the CSV file")


def run(given: argparse.Namespace) -> None:
    from ..quality import pairs

    pairs.report(given.results) if given.report else pairs.run(given.folder, given.results)
