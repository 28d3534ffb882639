"""A folder that all machines see, or one whose files go to each machine once, through Ray's object store."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from .out_folder import digests


@dataclass(frozen=True)
class SentFolder:
    """files: their content, as arrays of bytes that Ray holds, by place. hashes: SHA-256 of each."""

    files: Mapping[str, ray.ObjectRef]
    hashes: Mapping[str, str]


Folder = Path | SentFolder


def send(folder: Path) -> SentFolder:
    """What is in it, into the object store; a machine fetches what it has not got yet."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    content = {file.relative_to(folder).as_posix(): ray.put(np.fromfile(file, np.uint8)) for file in files}
    return SentFolder(content, digests(folder, files))


def here(folder: Folder) -> Path:
    """Where a worker finds it. Files lie in this machine's temporary folder by their hashes, for all its workers."""
    if isinstance(folder, Path):
        return folder
    store = Path(tempfile.gettempdir()) / f"core-fleet-files-{os.getuid() if hasattr(os, 'getuid') else 0}"
    place = Path(tempfile.mkdtemp(prefix=f"core-fleet-{os.getpid()}-"))
    store.mkdir(mode=0o700, exist_ok=True)
    for name, content in folder.files.items():
        kept = store / folder.hashes[name]
        if not kept.exists():
            partial = kept.with_name(uuid.uuid4().hex)
            ray.get(content).tofile(partial)
            os.replace(partial, kept)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(kept, place / name)
    return place
