"""From trainings to table, chart and pictures: what `python -m lab quality` does."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from ..comfyui import load_pack
from ..world.networks.judge import Judge
from . import drawing, records
from .cells import run
from .judging import Scored, judged
from .methods import ALL, FAST
from .protocol import PROTOCOLS, Protocol, cells
from .sheet import OTHERS, sheet


def run_stages(given: argparse.Namespace, stages: Sequence[str]) -> None:
    """given: as of the command. Raises ValueError for what is not in the protocol."""
    protocol = PROTOCOLS[given.protocol]
    methods = {name for tier in protocol.tiers for name in tier}
    known = {*protocol.concepts, *methods, *protocol.references, *protocol.seeds}
    if wrong := {*(given.concept or ()), *(given.method or ()), *(given.references or ()), *(given.seed or ())} - known:
        raise ValueError(f"not in this protocol: {', '.join(sorted(map(str, wrong)))}")
    folder = given.folder / protocol.name
    if "run" in stages:
        tiers = [[name for name in tier if name in (given.method or tier)] for tier in protocol.tiers]
        concepts, references = given.concept or protocol.concepts, given.references or protocol.references
        seeds = given.seed or protocol.seeds
        part = dataclasses.replace(protocol, concepts=concepts, references=references, seeds=seeds, tiers=tiers)
        until = time.time() + 60 * given.minutes
        if given.address:
            from .spread import spread

            spread(part, folder, until, given.address)
        else:
            run(part, folder, until)
    if "score" in stages:
        score(protocol, folder, given.results)
    if "report" in stages:
        report(protocol, folder, given.results, given.images)


def score(protocol: Protocol, folder: Path, results: Path) -> None:
    """All pictures that are there → two CSV files."""
    load_pack()
    judge, rows, runs = Judge.load(), [], []
    for cell in cells(protocol):
        if drawing.is_done(folder / "pictures", cell):
            pictures, note = drawing.load(folder / "pictures", cell)
            rows += judged(judge, cell, pictures)
            runs.append(note)
    records.write(results / f"{protocol.name}_pictures.csv", Scored, rows)
    records.write(results / f"{protocol.name}_runs.csv", drawing.Run, runs)


def report(protocol: Protocol, folder: Path, results: Path, images: Path) -> None:
    """Table and chart from the CSV files; the picture from the pictures, where they are at hand."""
    load_pack()
    from .report import chart, table
    from .strengths import curve, series, strengths
    from .summary import gains, summarized

    rows = records.read(results / f"{protocol.name}_pictures.csv", Scored)
    lines, runs = summarized(rows, list(ALL)), records.read(results / f"{protocol.name}_runs.csv", drawing.Run)
    text = table(lines, runs)
    if series(lines):
        text += "\n" + strengths(lines, runs)
        curve(lines, images / f"quality_{protocol.name}.webp")
    else:
        charted = protocol.charted or [line.method for line in lines]
        chart([line for line in lines if line.method in charted], images / f"quality_{protocol.name}.webp")
    (results / f"{protocol.name}.md").write_text(text, "utf-8")
    pictures, name = folder / "pictures", f"quality_{protocol.name}"
    ranked = gains(rows, protocol.gain_of, protocol.references[0], protocol.seeds[0])
    concepts = list(dict.fromkeys((ranked[0], ranked[len(ranked) // 2]))) if ranked else protocol.concepts
    sheet(protocol, pictures, images / f"{name}_pictures.webp", protocol.shown, concepts)
    if protocol.gain_of:
        sheet(protocol, pictures, images / f"{name}_first.webp", (OTHERS[1], FAST, protocol.gain_of), concepts, most=1)
    print(text)
