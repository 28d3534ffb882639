"""Time and peak memory of our trainings beside their peers, in one run: python benchmarks/speed

    python benchmarks/speed --size small                     all comparisons, in about three minutes
    python benchmarks/speed --size sd21 --works core         the published size; takes an hour on a CPU
    python benchmarks/speed --growth                         how time and memory grow

Writes results.csv (and growth.csv) with commit, hardware and versions, and a chart. Set COMFYUI_PATH (and
COMFYUI_PYTHON) to use a ComfyUI that you have; nothing in it is changed.
"""

import argparse
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]


def options() -> argparse.Namespace:
    from speed import SIZE_NAMES

    parser = argparse.ArgumentParser(
        prog="speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZE_NAMES, default="small", help="default: small")
    parser.add_argument("--works", nargs="*", metavar="NAME", help="of the comparisons; all without it")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="timed steps of each (default: 5)")
    parser.add_argument("--side", type=int, metavar="PIXELS", help="another than the size's")
    parser.add_argument("--batch", type=int, metavar="N", help="another than the size's")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: the faster one on this device"
    )
    parser.add_argument("--bf16-unet", action="store_true", help="ComfyUI's option: it keeps its own U-Net in bf16")
    parser.add_argument("--growth", action="store_true", help="growth over batch, side, images, vectors, prompt")
    parser.add_argument("--chart", type=Path, metavar="CSV", help="measure nothing: draw this table's chart beside it")
    parser.add_argument("--output", type=Path, default=Path("speed-output"), metavar="DIR")
    return parser.parse_args()


if __name__ == "__main__":
    if __package__:
        from .run import run

        sys.exit(run(options()))
    sys.path.insert(0, str(BENCHMARKS))
    from speed.prepared import start

    options()
    sys.exit(start("speed"))
