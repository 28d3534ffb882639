"""The folder that a fleet fills: OUT/<job>/ whole or not at all, and in OUT/.fleet what is not finished.

All machines see it by one path. A job that runs has a folder of its own under a name that nobody else knows; who takes
the job up renames it, so that a worker that was thought dead, and is not, finds nothing to write to.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
CARRIED = ("embeddings", "output/core_states", "output/loras", "output/diffusion_models")
"""What of an unfinished job goes on: what was trained, and the states of trainings. The rest is made anew."""
_KEY = 32
"""Characters of a job's digest, which the folder's name begins with."""


@dataclass(frozen=True)
class OutFolder:
    path: Path

    @property
    def inner(self) -> Path:
        return self.path / ".fleet"

    @property
    def unfinished(self) -> Path:
        return self.inner / "unfinished"

    @property
    def aside(self) -> Path:
        return self.inner / "set-aside"

    def manifest(self, job: str) -> dict[str, Any] | None:
        """Of a job that is done."""
        return _read(self.path / job / MANIFEST)

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Of all that are done, by name."""
        for file in sorted(self.path.glob(f"*/{MANIFEST}")):
            if found := _read(file):
                yield found

    def attempts(self, job: str) -> list[Path]:
        """An unfinished job's folder, or none; more where a worker was killed while it took the job up."""
        return sorted(_folders((self.unfinished / job).glob("*")))

    def is_begun_otherwise(self, job: str, digest: str) -> bool:
        """Whether what there is of an unfinished job was made with other inputs."""
        return any(not _is_of(folder, digest) for folder in self.attempts(job))

    def claim(self, job: str, digest: str) -> Path:
        """The folder to run a job in, with what earlier workers left of it. Nobody else can write to it any more."""
        mine = self.unfinished / job / f"{digest[:_KEY]}-{uuid.uuid4().hex}"
        for earlier in self.attempts(job):
            if _is_of(earlier, digest) and not mine.exists():
                os.rename(earlier, mine)
            else:
                shutil.rmtree(earlier, ignore_errors=True)
        for place in CARRIED:
            (mine / place).mkdir(parents=True, exist_ok=True)
        _remove_all_but(mine, {mine / place for place in CARRIED})
        for half_written in list(mine.rglob(".core-*.tmp")):
            shutil.rmtree(half_written, ignore_errors=True)
        return mine

    def finish(self, job: str, attempt: Path, manifest: Mapping[str, Any]) -> None:
        """The job's folder appears, with all that is in it. Raises OSError where another worker took the job over."""
        for folder in sorted(_folders(attempt.rglob("*")), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        write_json(attempt / MANIFEST, manifest)
        os.rename(attempt, self.path / job)
        shutil.rmtree(self.unfinished / job, ignore_errors=True)
        (self.aside / f"{job}.json").unlink(missing_ok=True)

    def set_aside(self, job: str, messages: Sequence[str]) -> None:
        self.aside.mkdir(parents=True, exist_ok=True)
        write_json(self.aside / f"{job}.json", {"job": job, "messages": list(messages)})

    def messages(self, job: str) -> list[str]:
        """Why a job was set aside; none where it was not."""
        return (_read(self.aside / f"{job}.json") or {}).get("messages", [])

    def write_plan(self, jobs: Mapping[str, Mapping[str, Any]]) -> None:
        """jobs: the inputs by name, of the list that runs."""
        self.inner.mkdir(parents=True, exist_ok=True)
        write_json(self.inner / "plan.json", jobs)

    def plan(self) -> dict[str, Any]:
        return _read(self.inner / "plan.json") or {}


def _is_of(attempt: Path, digest: str) -> bool:
    return attempt.name.startswith(digest[:_KEY])


def _remove_all_but(folder: Path, kept: set[Path]) -> None:
    """Folders that lead to what is kept stay."""
    for entry in folder.iterdir():
        if entry in kept:
            continue
        if entry.is_dir() and any(place.is_relative_to(entry) for place in kept):
            _remove_all_but(entry, kept)
        elif entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def write_json(path: Path, content: Any) -> None:
    """Appears whole or not at all, in a folder that is there."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, ensure_ascii=False, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their place in a folder."""
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}


def file_digest(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(2**20):
            found.update(part)
    return found.hexdigest()


def _folders(found: Iterable[Path]) -> list[Path]:
    """A pattern that ends in a slash finds files, too, before Python 3.11."""
    return [path for path in found if path.is_dir()]
