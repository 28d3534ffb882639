"""Where blind votes are: pages and keys in `votes` of the host's output folder, voters' files in its input folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import folder_paths

from . import safe_files

PAGE, KEY = ".html", ".key.json"
LARGEST_CSV = 4 * 2**20
"""A hundred times what a voter saves of 640 pairs."""


def vote_folder() -> Path:
    """The folder of all pages and keys."""
    return Path(folder_paths.get_output_directory()) / "votes"


def vote_names() -> list[str]:
    """Votes that have a key, the newest first."""
    keys = sorted(vote_folder().glob(f"*{KEY}"), key=lambda file: (-file.stat().st_mtime, file.name))
    return [file.name.removesuffix(KEY) for file in keys]


def save_vote(name: str, page: str, key: str, overwrite: bool) -> tuple[Path, Path]:
    """Writes NAME.html and NAME.key.json, or NAME-2 and so on when one of them is there; returns their paths."""
    key_file, page_file = safe_files.write_pair(vote_folder(), name, {KEY: key, PAGE: page}, overwrite)
    return page_file, key_file


def read_key(name: str) -> str:
    """The key's text. Raises ValueError when there is none of this name."""
    if name not in vote_names():
        raise ValueError(f"vote: there is no key {name + KEY!r} in {vote_folder()}; press r, and choose one.")
    return (vote_folder() / f"{name}{KEY}").read_text(encoding="utf-8")


def table_files() -> list[Path]:
    """CSV files in the input folder and its folders, in the order of their names."""
    folder = Path(folder_paths.get_input_directory())
    found = itertools.chain(folder.glob("*.[cC][sS][vV]"), folder.glob("*/*.[cC][sS][vV]"))
    return sorted(file for file in found if file.is_file() and file.stat().st_size <= LARGEST_CSV)


def tables() -> Iterator[tuple[str, str]]:
    """Name and text of each; what is no text is left out."""
    for file in table_files():
        try:
            yield file.name, file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            continue


def state_of_vote(name: str) -> str:
    """Changes when a CSV file comes, goes or is written anew, and when the vote's key is."""
    files = (*table_files(), vote_folder() / f"{name}{KEY}")
    return "\n".join(f"{file}:{safe_files.mark_of(file)}" for file in files)
