"""From a fresh clone to images of a new concept: python scripts/demo.py

Prepares ComfyUI once, trains the concept of the quick-start workflow in it, and names the files that it made.
Set COMFYUI_PATH (and COMFYUI_PYTHON) to use a ComfyUI that you have; nothing in it is changed.
"""

import argparse
import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/demo.py")

from preparation.foreground import run_prepared
from preparation.installation import DEMO_MODULES, ROOT


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a concept from four pictures in ComfyUI and draw it.")
    parser.add_argument("--comfyui-port", type=int, default=0, metavar="PORT", help="default: any free port")
    parser.add_argument("--keep-server", action="store_true", help="leave ComfyUI open to look at, until Ctrl-C")
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", metavar="DIR", help="for the pictures")
    options = parser.parse_args()
    words = ["--comfyui-port", str(options.comfyui_port), "--output", str(options.output.resolve())]
    words += ["--keep-server"] if options.keep_server else []
    return run_prepared(DEMO_MODULES, ["-m", "driver", *words], ROOT / "scripts")


if __name__ == "__main__":
    sys.exit(main())
