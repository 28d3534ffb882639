"""Runs a Python program that ends with whoever started it, however that ends: python tied.py PROGRAM [its words]

Whoever starts it holds a pipe to it, and writes nothing: the system closes the pipe when that process is gone.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from pathlib import Path


def end_with_the_pipe() -> None:
    os.read(0, 1)  # not by sys.stdin, whose lock Python takes when it ends
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_pipe, daemon=True).start()
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
