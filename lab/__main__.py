"""One command for all that is measured: python -m lab COMMAND --help"""

from __future__ import annotations

import argparse
import os
import sys

from preparation.foreground import run_prepared
from preparation.installation import TEST_MODULES

from . import ROOT
from .commands import attention, gpu, gradients, memory_table, pairs, profile, quality, speed, times, world

COMMANDS = {
    "world": world,
    "quality": quality,
    "pairs": pairs,
    "times": times,
    "attention": attention,
    "speed": speed,
    "gradients": gradients,
    "profile": profile,
    "memory-table": memory_table,
    "gpu": gpu,
}
"""Modules with `add_arguments(parser)` and `run(given)`. They import torch when they run: help needs nothing."""


def main() -> int:
    said = "What measures the pack. Without COMFYUI_PATH a ComfyUI is prepared, and the command runs in its Python."
    parser = argparse.ArgumentParser(prog="python -m lab", description=said)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        text = module.__doc__ or ""
        command = commands.add_parser(
            name, help=text.splitlines()[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    given = parser.parse_args()
    if not os.environ.get("COMFYUI_PATH"):
        return run_prepared(TEST_MODULES, ["-m", "lab", *sys.argv[1:]], ROOT)
    return given.run(given) or 0


if __name__ == "__main__":
    sys.exit(main())
