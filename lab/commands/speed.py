"""Time and peak memory of our trainings beside their peers, in one run.

python -m lab speed --size small                all comparisons, in about three minutes
python -m lab speed --size sd21 --works core    the published size; takes an hour on a CPU

Writes results.csv with commit, hardware and versions, and a chart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SIZES = ("tiny", "small", "medium", "sd15", "sd21-half", "sd21", "sd21-256", "sdxl-small", "sdxl")
"""Of the shapes in lab/speed/sizes.py, which cannot be read before torch is installed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shape(parser)
    parser.add_argument("--works", nargs="*", metavar="NAME", help="of the comparisons; all without it")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="timed steps of each (default: 5)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: the faster one on this device"
    )
    parser.add_argument("--bf16-unet", action="store_true", help="ComfyUI's option: it keeps its own U-Net in bf16")
    parser.add_argument("--chart", type=Path, metavar="CSV", help="measure nothing: draw this table's chart beside it")
    parser.add_argument("--output", type=Path, default=Path("speed-output"), metavar="DIR")


def add_shape(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", choices=SIZES, default="small", help="default: small")
    parser.add_argument("--side", type=int, metavar="PIXELS", help="another than the size's")
    parser.add_argument("--batch", type=int, metavar="N", help="another than the size's")


def run(given: argparse.Namespace) -> None:
    from ..speed.session import compare_all

    compare_all(given)
