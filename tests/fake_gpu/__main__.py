"""Python on the pretended card, which is built first where it is not yet: python -m fake_gpu -m pytest tests/gpu"""

from __future__ import annotations

import os
import sys

from preparation.installation import HOST_FOLDER
from preparation.timeline import Timeline

from .build import CannotPretend, build, environment

UNAVAILABLE = 69
"""The exit status where the card cannot be built: EX_UNAVAILABLE of sysexits.h. scripts/test.py knows it."""


def main() -> int:
    folder = HOST_FOLDER / "fake-gpu"
    try:
        build(folder, Timeline())
    except CannotPretend as reason:
        print(f"No CUDA card can be pretended here: {reason}.", file=sys.stderr)
        return UNAVAILABLE
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment(folder, os.environ))


if __name__ == "__main__":
    sys.exit(main())
