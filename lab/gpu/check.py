"""The check itself, stage by stage."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import warnings
from typing import Any

from ..commands.gpu import STAGES
from .rows import Report

SECONDS = {"correctness": 110, "speed": 190, "memory": 110, "unloading": 60}
"""Of each stage; together less than 8 minutes. --small, which tests the check on any machine, has more."""
PATIENCE = 20


def check(chosen: argparse.Namespace) -> int:
    """chosen: only, small and output, as of the command. Returns the exit status."""
    if reason := without_card():
        print(f"No CUDA device was found: {reason}", file=sys.stderr)
        return 1
    stages = {name: importlib.import_module(f".{name}", __package__) for name in STAGES if name in chosen.only}
    report = Report(chosen.output, surroundings(), {name: stage.TITLE for name, stage in stages.items()})
    with tempfile.TemporaryDirectory() as folder:
        for name, stage in stages.items():
            until = time.monotonic() + SECONDS[name] * (PATIENCE if chosen.small else 1)
            for row in stage.rows(folder, chosen.small, until):
                report.add(row)
            tables = report.write_tables()
    print(f"\n{tables}\nWritten to {report.folder}.")
    return int(report.failed)


def without_card() -> str:
    """Why there is no card, in a sentence; empty where there is one."""
    import torch

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return ""
    why = f" torch says: {' '.join(str(told[0].message).split())}" if told else ""
    return f"this check needs an NVIDIA card, and torch is {torch.__version__}.{why}"


def surroundings() -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    from ..surroundings import surroundings as found

    properties = torch.cuda.get_device_properties(0)
    known = found("cuda")
    return {
        **{name: known[name] for name in ("commit", "date", "hardware")},
        "memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "CUDA": torch.version.cuda,
        **{name: known[name] for name in ("torch", "comfyui", "diffusers", "python")},
    }
