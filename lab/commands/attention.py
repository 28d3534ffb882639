"""What an overfitted concept takes of a picture's attention, and what CoRe and its test-time optimization leave.

Trains one concept of the mini world on biased references (all on the beach, all with a hat) with Textual Inversion and
with CoRe fast, draws the evaluation prompts that name another place, with the product's probe, and writes a CSV, a
picture and a Markdown table. What `python -m lab quality` has trained, in --folder, is not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concept", default="split-backpack", help="default: %(default)s")
    parser.add_argument("--pictures", type=int, default=4, help="of each prompt; default: %(default)s")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "quality" / "evidence", help="what was trained")
    images = ROOT / "docs" / "images"
    parser.add_argument("--images", type=Path, default=images, help="where attention.csv and attention.webp go")


def run(given: argparse.Namespace) -> None:
    from ..attention import watch_all

    watch_all(given)
