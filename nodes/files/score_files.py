"""Where scorecards are written: `scorecards` in the host's output folder."""

from __future__ import annotations

import itertools
from pathlib import Path

import folder_paths

from . import safe_files


def score_folder() -> Path:
    """The folder of all scorecards."""
    return Path(folder_paths.get_output_directory()) / "scorecards"


def save_scores(name: str, table: str, scores: str, overwrite: bool) -> Path:
    """Writes NAME.csv and NAME.json, or NAME-2 and so on when one of them is there; returns the CSV's path."""
    folder = score_folder()
    stems = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    taken = (".csv", ".json")
    stem = next(s for s in stems if overwrite or not any((folder / f"{s}{suffix}").exists() for suffix in taken))
    safe_files.write_text(folder / f"{stem}.json", scores, overwrite)
    safe_files.write_text(folder / f"{stem}.csv", table, overwrite)
    return folder / f"{stem}.csv"
