"""Cases of one stage, measured in a process of its own: python -m lab.gpu.worker SETUP

Each line that comes is a case, each line that goes its answer, both JSON. What libraries print goes to the standard
error. Imports no torch by itself: ComfyUI's dynamic VRAM has to be set up before.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import ROOT
from .process import Setup
from .rows import Case

Measure = Callable[[Case], Case]
"""A stage's module has `prepared(setup)`, which returns this."""


def main() -> None:
    setup = Setup.from_json(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(values: dict[str, Any]) -> None:
        print(json.dumps(values), file=answers, flush=True)

    measure: Measure = importlib.import_module(f".{setup.stage}", __package__).prepared(setup)
    for line in sys.stdin:
        try:
            values = measure(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            answer({"error": told(error)})
            if is_fatal(error):
                return
        else:
            answer(values)
        give_back()


def told(error: BaseException) -> str:
    """In one line, with the last line of ours that it went through. Of several lines the last one, a log's end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " … ".join(line[:300] for line in dict.fromkeys((*lines[:1], *lines[-1:])))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(ROOT))]
    place = f" ({Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def is_fatal(error: BaseException) -> bool:
    """After an error of the device itself every later call of this process fails, too."""
    import torch

    return isinstance(error, torch.AcceleratorError)


def give_back() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
