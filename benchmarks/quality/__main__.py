"""The papers' comparisons on the embedded checkpoint, as training, pictures, scores, table and chart.

Run again, it goes on where it stopped. `score` and `report` need no ComfyUI; `report` needs nothing but the CSV files.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from .pack import ROOT, load_pack
from .protocol import PROTOCOLS, Protocol, cells

STAGES = ("run", "score", "report")


def score(protocol: Protocol, folder: Path, results: Path) -> None:
    """All pictures that are there → two CSV files."""
    from mini_world.judge import Judge

    from . import drawing, records
    from .judging import Scored, judged

    judge, rows, runs = Judge.load(), [], []
    for cell in cells(protocol):
        if drawing.is_done(folder / "pictures", cell):
            pictures, run = drawing.load(folder / "pictures", cell)
            rows += judged(judge, cell, pictures)
            runs.append(run)
    records.write(results / f"{protocol.name}_pictures.csv", Scored, rows)
    records.write(results / f"{protocol.name}_runs.csv", drawing.Run, runs)


def report(protocol: Protocol, folder: Path, results: Path, images: Path) -> None:
    """Table and chart from the CSV files; the picture from the pictures, where they are at hand."""
    from . import drawing, records
    from .judging import Scored
    from .methods import METHODS
    from .report import chart, table
    from .sheet import OTHERS, sheet
    from .summary import summarized

    rows = records.read(results / f"{protocol.name}_pictures.csv", Scored)
    runs = records.read(results / f"{protocol.name}_runs.csv", drawing.Run)
    lines = summarized(rows, list(METHODS))
    text = table(lines, runs)
    (results / f"{protocol.name}.md").write_text(text, "utf-8")
    chart(lines, images / f"quality_{protocol.name}.jpg")
    pictures, name = folder / "pictures", f"quality_{protocol.name}"
    sheet(protocol, pictures, images / f"{name}_pictures.jpg", protocol.shown)
    sheet(protocol, pictures, images / f"{name}_first.jpg", (*OTHERS, "CoRe"), concepts=1)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)}; all of them by default")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="full")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "quality", help="pictures and embeddings")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="CSV files and table")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="chart and pictures")
    parser.add_argument(
        "--concept",
        action="append",
        metavar="NAME",
        help="train for this one only, so that processes can share the work",
    )
    parser.add_argument("--method", action="append", metavar="NAME", help="train by this one only")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further training after so long")
    given = parser.parse_args()
    if wrong := set(given.stages) - set(STAGES):
        parser.error(f"no such stage: {', '.join(sorted(wrong))}; choose of {', '.join(STAGES)}")
    protocol = PROTOCOLS[given.protocol]
    known = {*protocol.concepts, *(name for tier in protocol.tiers for name in tier)}
    if wrong := {*(given.concept or ()), *(given.method or ())} - known:
        parser.error(f"not in this protocol: {', '.join(sorted(wrong))}")
    load_pack()
    folder, stages = given.folder / protocol.name, given.stages or STAGES
    if "run" in stages:
        from .running import run

        tiers = [[name for name in tier if name in (given.method or tier)] for tier in protocol.tiers]
        part = dataclasses.replace(protocol, concepts=given.concept or protocol.concepts, tiers=tiers)
        run(part, folder, time.time() + 60 * given.minutes)
    if "score" in stages:
        score(protocol, folder, given.results)
    if "report" in stages:
        report(protocol, folder, given.results, given.images)


if __name__ == "__main__":
    main()
