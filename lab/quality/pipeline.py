"""From trainings to table, chart and pictures: what `python -m lab quality` does."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import ROOT
from ..comfyui import load_pack
from . import drawing, records
from .bench import Bench, MiniWorld
from .cells import run
from .methods import ALL, FAST
from .own_model import OwnModel, node_settings
from .protocol import EVIDENCE, OWN, PROTOCOLS, Protocol
from .sheet import sheet

RESULTS, IMAGES = ROOT / "lab" / "quality" / "results", ROOT / "docs" / "images"


def run_stages(given: argparse.Namespace, stages: Sequence[str]) -> None:
    """given: as of the command. Raises ValueError for what is not in the protocol."""
    bench, protocol = _chosen(given)
    methods = {name for tier in protocol.tiers for name in tier}
    known = {*protocol.concepts, *methods, *protocol.references, *protocol.seeds}
    if wrong := {*(given.concept or ()), *(given.method or ()), *(given.references or ()), *(given.seed or ())} - known:
        raise ValueError(f"not in this protocol: {', '.join(sorted(map(str, wrong)))}")
    folder = given.folder / protocol.name
    own = folder if given.checkpoint else None
    results, images = given.results or own or RESULTS, given.images or own or IMAGES
    if "run" in stages:
        tiers = [[name for name in tier if name in (given.method or tier)] for tier in protocol.tiers]
        concepts, references = given.concept or protocol.concepts, given.references or protocol.references
        seeds = given.seed or protocol.seeds
        part = dataclasses.replace(protocol, concepts=concepts, references=references, seeds=seeds, tiers=tiers)
        until = time.time() + 60 * given.minutes
        if given.address:
            from .spread import spread

            spread(bench, part, folder, until, given.address)
        else:
            run(bench, part, folder, until)
    if "score" in stages:
        score(bench, protocol, folder, results)
    if "report" in stages:
        report(bench, protocol, folder, results, images)


def score(bench: Bench, protocol: Protocol, folder: Path, results: Path) -> None:
    """All pictures that are there → two CSV files. What the files have of other cells, which another machine ran,
    stays."""
    load_pack()
    files = results / f"{protocol.name}_{bench.pictures}", results / f"{protocol.name}_runs.csv"
    old_rows, old_runs = (_by_cell(file, kind) for file, kind in zip(files, (bench.row, drawing.Run), strict=True))
    rows, runs = [], []
    for cell in bench.cells(protocol):
        if drawing.is_done(folder / "pictures", cell):
            pictures, note = drawing.load(folder / "pictures", cell)
            rows += bench.judged(cell, pictures)
            runs.append(note)
        else:
            rows += old_rows[cell.place]
            runs += old_runs[cell.place]
    records.write(files[0], bench.row, rows)
    records.write(files[1], drawing.Run, runs)


def _by_cell(file: Path, kind: type[Any]) -> Mapping[tuple[str, str, str, int], list[Any]]:
    """A CSV file's rows; none where there is no file."""
    found = defaultdict(list)
    for row in records.read(file, kind) if file.is_file() else ():
        found[row.method, row.concept, row.references, row.seed].append(row)
    return found


def report(bench: Bench, protocol: Protocol, folder: Path, results: Path, images: Path) -> None:
    """Table and chart from the CSV files; the picture from the pictures, where they are at hand."""
    load_pack()
    from .report import chart, table
    from .strengths import curve, series, strengths
    from .summary import BASELINES, gains, summarized

    rows = records.read(results / f"{protocol.name}_{bench.pictures}", bench.row)
    runs = records.read(results / f"{protocol.name}_runs.csv", drawing.Run)
    lines = summarized(rows, list(ALL), bench.scores)
    text = table(lines, runs, tuple(bench.scores))
    if series(lines):
        text += "\n" + strengths(lines, runs)
        curve(lines, images / f"quality_{protocol.name}.webp")
    else:
        charted = protocol.charted or [line.method for line in lines]
        chart([line for line in lines if line.method in charted], images / f"quality_{protocol.name}.webp", bench.axes)
    (results / f"{protocol.name}.md").write_text(text, "utf-8")
    cells = list(bench.cells(protocol))
    pictures, name = folder / "pictures", f"quality_{protocol.name}"
    gained = bench.scores[next(iter(bench.axes))]
    ranked = gains(rows, protocol.gain_of, protocol.references[0], protocol.seeds[0], gained)
    concepts = list(dict.fromkeys((ranked[0], ranked[len(ranked) // 2]))) if ranked else protocol.concepts
    sheet(protocol, cells, pictures, images / f"{name}_pictures.webp", protocol.shown, concepts)
    if protocol.gain_of:
        first = BASELINES[0], FAST, protocol.gain_of
        sheet(protocol, cells, pictures, images / f"{name}_first.webp", first, concepts, most=1)
    print(text)


def _chosen(given: argparse.Namespace) -> tuple[Bench, Protocol]:
    """Raises ValueError for a checkpoint together with a protocol of the mini world."""
    if not given.checkpoint:
        return MiniWorld(), PROTOCOLS[given.protocol or EVIDENCE.name]
    if given.protocol:
        raise ValueError("protocol: a checkpoint of your own has one of its own; leave --protocol out.")
    own = OwnModel.given(given, given.folder / OWN.name)
    return own, dataclasses.replace(OWN, concepts=tuple(own.subjects), settings=node_settings(given.set or ()))
