"""Where scorecards are written: `scorecards` in the host's output folder."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from . import safe_files


def score_folder() -> Path:
    """The folder of all scorecards."""
    return Path(folder_paths.get_output_directory()) / "scorecards"


def save_scores(name: str, table: str, scores: str, overwrite: bool) -> Path:
    """Writes NAME.csv and NAME.json, or NAME-2 and so on when one of them is there; returns the CSV's path."""
    return safe_files.write_pair(score_folder(), name, {".json": scores, ".csv": table}, overwrite)[1]
