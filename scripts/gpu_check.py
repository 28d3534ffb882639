"""What only a card shows, measured in under 8 minutes: python scripts/gpu_check.py

    python scripts/gpu_check.py --only speed memory      some of its stages: correctness speed memory unloading

Compares losses with the CPU's, speed with the other programs', memory with what was planned, and looks whether all of
it is given back. Writes gpu_check.json and gpu_check.md; the exit status is 0 if nothing is off. Set COMFYUI_PATH (and
COMFYUI_PYTHON) to use a ComfyUI that you have; nothing in it is changed.
"""

import argparse
import sys

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/gpu_check.py")

from preparation.foreground import run_prepared
from preparation.installation import ROOT

sys.path.append(str(ROOT))  # last: ComfyUI's "nodes" goes before our folder of that name
from lab.commands import gpu

MODULES = ("torch", "diffusers", "einops", "pytest")
"""The peers are diffusers', and the small models are those of the tests."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure on a CUDA device what the other tests cannot. See docs/gpu.md."
    )
    gpu.add_arguments(parser)
    chosen = parser.parse_args()
    words = ["--only", *chosen.only, "--output", str(chosen.output.resolve()), *["--small"] * chosen.small]
    return run_prepared(MODULES, ["-m", "lab", "gpu", *words], ROOT)


if __name__ == "__main__":
    sys.exit(main())
