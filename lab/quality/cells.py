"""Trains and draws what is not there yet, one cell after another."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

import torch

from ..surroundings import commit
from .bench import Bench
from .drawing import is_done, run_cell, save
from .protocol import Cell, Protocol
from .training import Trainer

FREE_TO_CHANGE = ("name", "tiers", "concepts", "references", "seeds", "charted", "shown", "gain_of")
"""What may be added to a protocol without making its earlier runs another experiment."""


def run(bench: Bench, protocol: Protocol, folder: Path, until: float = float("inf")) -> None:
    """until: time.time() after which no further cell is begun."""
    claim(bench, protocol, folder)
    todo = missing(bench, protocol, folder)
    if not todo:
        return
    host = bench.host(folder)
    trainer = Trainer(host, protocol, folder)
    where = commit(), hardware()
    for number, cell in enumerate(todo, 1):
        if time.time() > until:
            return
        began = time.monotonic()
        drawn, note = run_cell(host, protocol, cell, trainer.train(cell), where)
        save(folder / "pictures", cell, drawn, note)
        took = time.monotonic() - began
        print(f"{number}/{len(todo)} {cell.label}: {took:.0f} s", flush=True)


def missing(bench: Bench, protocol: Protocol, folder: Path) -> list[Cell]:
    return [cell for cell in bench.cells(protocol) if not is_done(folder / "pictures", cell)]


def claim(bench: Bench, protocol: Protocol, folder: Path) -> None:
    """Raises ValueError when the folder's runs were made with another model, other steps, rates or pictures."""
    settings = {name: value for name, value in asdict(protocol).items() if name not in FREE_TO_CHANGE}
    settings |= bench.about()
    file = folder / "protocol.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings, indent=2), "utf-8")
    elif json.loads(file.read_text("utf-8")) != settings:
        raise ValueError(f"folder: {folder} holds runs of a protocol with other settings; remove it or name another.")


def hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
