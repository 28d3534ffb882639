"""A training in a process that may be killed, again and again: what `KilledRun` in test_kills.py starts.

    python training_process.py '{"base": ..., "checkpoint": ..., "node": "CoRe Train Embedding", "name": ..., ...}'

For each line that it reads, where to kill itself or null, it trains in a fork of itself, which has imported and loaded
everything and done nothing yet. The fork prints "ready" before the training, with its process's id and how many
unfinished files the start found and left, and "done" with a hash of what was learned after it; then "ended" comes with
its exit status. Where there are no forks it trains itself, once.
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
    import torch
    from families.load import load_checkpoint
    from safetensors.torch import load_file

    from lab.comfyui import start
    from robustness.smallest import SMALLEST

    base = start(Path(orders["base"]))
    from core_personalization.nodes import extension  # noqa: F401 - all nodes, with all that they import

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # A pool of threads does not live on in a fork.
    models = load_checkpoint(SMALLEST, load_file(orders["checkpoint"]), str(base / "models" / "embeddings"))
    for line in sys.stdin:
        child = os.fork() if hasattr(os, "fork") else 0
        if child:
            print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        torch.set_num_threads(threads)
        train(base, models, orders, strike=json.loads(line))
        os._exit(0)


def train(base: Path, models: Any, orders: dict[str, Any], strike: tuple[str, int, str] | None) -> None:
    from core_personalization.nodes.extension import sweep_output_folders

    from robustness.subjects import SUBJECTS

    found = len(list(base.rglob(".core-*")))
    sweep_output_folders()
    if strike:
        kill_while_writing(*strike)
    print("ready", os.getpid(), found, len(list(base.rglob(".core-*"))), flush=True)
    (subject,) = (each for each in SUBJECTS if each.title == orders["node"])
    print("done", result_hash(subject.run(models, orders["name"], **orders["settings"])), flush=True)


if __name__ == "__main__":
    main()
