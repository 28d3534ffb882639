"""The papers' methods compared on the mini world, or on your own model and photos: trainings, scores, table and chart.

Run again, it goes on where it stopped. `report` needs nothing but the CSV files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import ROOT

OWN = (
    "Each method as it is published, judged by the scorecard's CLIP and DINO. Files, table and pictures come into "
    "FOLDER/own. Choose methods with --method."
)
STAGES = ("run", "score", "report")
PROTOCOLS = ("evidence", "search", "embedded", "strength", "quick_start", "coat", "captions", "methods", "smoke")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    help_of_stages = f"of {', '.join(STAGES)}; all of them by default"
    parser.add_argument("stages", nargs="*", type=_stage, metavar="stage", help=help_of_stages)
    parser.add_argument("--protocol", choices=PROTOCOLS, help="by default evidence")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "quality", help="pictures and embeddings")
    parser.add_argument("--results", type=Path, help="CSV files and table")
    parser.add_argument("--images", type=Path, help="chart and pictures")
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
    _add_own_model(parser.add_argument_group("on your own model", OWN))


def _add_own_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--checkpoint", type=Path, metavar="FILE", help="Stable Diffusion 1.x, 2.x or XL")
    said = "a folder of photos, what it shows (dog), and of which kind that is: animate, inanimate, person, style"
    group.add_argument("--photos", action="append", nargs=3, metavar=("FOLDER", "CATEGORY", "KIND"), help=said)
    group.add_argument("--resolution", type=int, default=0, help="in pixels; by default the model's own")
    group.add_argument("--clip", help="folder or Hugging Face id; by default the scorecard's")
    group.add_argument("--dino", help="the same; '' for none")
    group.add_argument("--download", action="store_true", help="fetch them where they are not in the local cache")
    said = "an input of the training nodes, of one of them with embedding. or finetune. before it: finetune.rank=8"
    group.add_argument("--set", action="append", metavar="NAME=VALUE", help=said)


def run(given: argparse.Namespace) -> None:
    from ..quality.pipeline import run_stages

    run_stages(given, given.stages or STAGES)


def _stage(name: str) -> str:
    if name not in STAGES:
        raise argparse.ArgumentTypeError(f"no such stage: {name}; choose of {', '.join(STAGES)}")
    return name
