"""One workflow, many jobs: python -m fleet COMMAND --help"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from preparation.errors import PreparationError
from preparation.foreground import run_prepared
from preparation.installation import DEMO_MODULES

from . import ROOT

MODULES = (*DEMO_MODULES, "ray", "rich", "jinja2")
FAULTY = 2
"""Exit status where the list, or what is needed for it, is not right; nothing was started then."""


def at_least(low: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"got {text}; give {low} or more")
        return int(text)

    return number


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m fleet", description="A workflow, for each row of a list. docs/fleet.md"
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="all jobs of a list; what is done already is left")
    run.add_argument("jobs", type=Path, metavar="JOBS", help="CSV or JSON Lines: a row a job, a column an input")
    run.add_argument("--workflow", type=Path, required=True, metavar="FILE", help="as the editor saves or exports it")
    run.add_argument("--out", type=Path, default=Path("fleet-output"), help="folder that all machines see")
    run.add_argument("--address", default="local", help="local, auto, or ray://HOST:10001")
    run.add_argument("--inputs", type=Path, metavar="DIR", help="ComfyUI's input folder: photos")
    run.add_argument("--models", type=Path, metavar="DIR", help="ComfyUI's models folder: checkpoints, loras, …")
    run.add_argument("--send", action="store_true", help="inputs and models are on this machine only: send them once")
    run.add_argument(
        "--workers", type=at_least(1), metavar="N", help="default: one for each GPU, or for every --cpus cores"
    )
    run.add_argument("--cpus", type=at_least(1), metavar="N", help="cores of a worker; default: 1 beside a GPU, else 2")
    run.add_argument(
        "--gpus", type=at_least(0), metavar="N", help="of a worker; default: 1 where the cluster has any, else 0"
    )
    said = "a state is kept every so many steps, for jobs whose worker dies; 0: as the workflow says"
    run.add_argument("--save-every", type=at_least(0), default=50, metavar="STEPS", help=said)
    run.add_argument("--comfyui-options", default="", metavar="WORDS", help='of its command line, such as "--lowvram"')
    status = commands.add_parser("status", help="what is done, interrupted, set aside, waiting")
    collect = commands.add_parser("collect", help="one table of all scores, and a gallery of all pictures")
    for command in (status, collect):
        command.add_argument("out", type=Path, metavar="OUT")
    collect.add_argument("--table", type=Path, metavar="FILE", help=".csv or .parquet; default: OUT/scores.csv")
    return top


def main() -> int:
    given = parser().parse_args()
    if not os.environ.get("COMFYUI_PATH"):
        return run_prepared(MODULES, ["-m", "fleet", *sys.argv[1:]], ROOT)
    try:
        if given.command == "run":
            from .run import run

            return run(given)
        from . import results

        return results.status(given.out) if given.command == "status" else results.collect(given.out, given.table)
    except (PreparationError, ValueError) as error:
        print(error, file=sys.stderr)
        return FAULTY
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
