"""The papers' comparisons on the embedded checkpoint: `python -m benchmarks.quality --help`."""

from __future__ import annotations

import argparse
import platform
import subprocess
import time
from pathlib import Path

from .protocol import PROTOCOLS, Protocol, cells

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("run",)


def run(protocol: Protocol, folder: Path, until: float) -> None:
    """Trains and draws every cell that is not there yet."""
    from .drawing import is_done, run_cell, save
    from .host import Host
    from .training import Trainer

    pictures = folder / "pictures"
    todo = [cell for cell in cells(protocol) if not is_done(pictures, cell)]
    if not todo:
        return
    host = Host(folder)
    trainer = Trainer(host, protocol, folder)
    where = commit(), hardware()
    for number, cell in enumerate(todo, 1):
        if time.time() > until:
            break
        began = time.monotonic()
        drawn, note = run_cell(host, protocol, cell, trainer.train(cell), where)
        save(pictures, cell, drawn, note)
        took = time.monotonic() - began
        print(
            f"{number}/{len(todo)} {cell.method.name}, {cell.concept}, {cell.references}, seed {cell.seed}: {took:.0f} s",
            flush=True,
        )


def commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def hardware() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="full")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "quality", help="work in progress; resumed")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further run after this time")
    given = parser.parse_args()
    protocol = PROTOCOLS[given.protocol]
    run(protocol, given.folder / protocol.name, time.time() + 60 * given.minutes)


if __name__ == "__main__":
    main()
