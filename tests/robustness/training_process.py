"""One training in a process of its own, which may be killed: what `Process` in test_kills.py starts.

    python training_process.py '{"base": ..., "checkpoint": ..., "node": "CoRe Train Embedding", "name": ..., ...}'

Prints "ready" before the training, with how many unfinished files the start found and left, and a hash of what was
learned after it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

STAGES = ("save_file", "_flush", "same_tensors", "replace")
"""Of `safe_files`: what writing a file does, in this order."""


def kill_while_writing(stage: str, number: int, when: str) -> None:
    """This process, before or after the `number`-th call of a stage; "half": with half of the file on the disk."""
    from core_personalization.nodes.files import safe_files

    original, calls = getattr(safe_files, stage), []

    def fatal(*args: Any) -> Any:
        calls.append(None)
        if len(calls) != number:
            return original(*args)
        if when != "before":
            original(*args)
        if when == "half":
            path = next(each for each in args if isinstance(each, Path))
            os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), 9)

    setattr(safe_files, stage, fatal)


def result_hash(result: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(result):
        digest.update(name.encode() + result[name].numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    orders = json.loads(sys.argv[1])
    root = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(root / "tests"), str(root / "scripts")]  # as pytest has them
    import conftest  # noqa: F401 - loads the pack
    from families.load import load_checkpoint
    from safetensors.torch import load_file

    from lab.comfyui import start
    from robustness.smallest import SMALLEST
    from robustness.subjects import SUBJECTS

    base = start(Path(orders["base"]))
    from core_personalization.nodes.extension import sweep_output_folders

    found = len(list(base.rglob(".core-*")))
    sweep_output_folders()
    models = load_checkpoint(SMALLEST, load_file(orders["checkpoint"]), str(base / "models" / "embeddings"))
    if orders["strike"]:
        kill_while_writing(*orders["strike"])
    print("ready", found, len(list(base.rglob(".core-*"))), flush=True)
    (subject,) = (each for each in SUBJECTS if each.title == orders["node"])
    print("done", result_hash(subject.run(models, orders["name"], **orders["settings"])), flush=True)


if __name__ == "__main__":
    main()
