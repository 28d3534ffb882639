"""Captions beside their pictures, as core's *Load Image-Text (from Folder)* reads them: picture.png, picture.txt.

Leans on `folder_paths.is_within_directory`, which hosts have since 0.28.0.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import folder_paths
import node_helpers
import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ...core_ops.quoting import quoted
from . import safe_files

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Those that core's dataset nodes read."""

INPUT, OUTPUT = "input", "output"
LONGEST = 2**16
"""Bytes of a caption's file that is read; a row of 77 tokens takes a hundredth of it."""


@dataclass(frozen=True)
class CaptionPlace:
    """Where one caption goes. picture: the file it describes; new: whether that file is written too."""

    picture: Path
    new: bool

    @property
    def caption(self) -> Path:
        return self.picture.with_suffix(".txt")


def places(root: str, name: str, pictures: Sequence[Tensor], overwrite: bool) -> list[CaptionPlace]:
    """Where the captions of pictures [3, H, W] go in a folder within the host's input or output folder.

    A folder that has pictures must have these, and each caption goes beside its own, found by its pixels: an IMAGE does
    not know its file. In a new or empty folder pictures are written as core's *Save Image-Text* does.
    Raises ValueError for a folder elsewhere, for pictures that are not in it, and for captions that would be lost.
    """
    target = folder(root, name)
    inside = sorted(target.iterdir()) if target.is_dir() else ()
    files = [file for file in inside if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file()]
    if files:
        found = [CaptionPlace(file, new=False) for file in _files_of(pictures, files, name)]
    else:
        found = [CaptionPlace(target / f"image_{index:05d}.png", new=True) for index, _ in enumerate(pictures)]
    taken = [place.caption for place in found if place.caption.exists()]
    if taken and not overwrite:
        raise ValueError(
            f"save_folder: {taken[0]} exists already; choose another save_folder, or switch overwrite on to replace "
            f"{len(taken)} captions."
        )
    return found


def save(found: Sequence[CaptionPlace], pictures: Sequence[Tensor], captions: Sequence[str]) -> None:
    """Writes each caption, and the picture [3, H, W] if it is new; what may be replaced was settled by `places`."""
    for place, picture, caption in zip(found, pictures, captions, strict=True):
        if place.new:
            png = io.BytesIO()
            Image.fromarray(_eight_bit(picture)).save(png, "PNG")
            safe_files.write_bytes(place.picture, png.getvalue(), overwrite=False)
        safe_files.write_text(place.caption, caption, overwrite=True)


def read_caption(file: Path) -> str:
    """On one line, in whatever encoding editors write: UTF-8 or UTF-16, with a mark or without, or Windows' own.

    Raises ValueError saying why, without the file's name.
    """
    try:
        content = file.read_bytes() if file.stat().st_size <= LONGEST else None
    except OSError as error:
        raise ValueError(f"cannot be opened: {error.strerror}") from error
    if content is None:
        raise ValueError("too long for a caption")
    encodings = ["utf-8-sig", "cp1252"]
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif 0 in content[:2]:  # Without a mark: of a Latin letter one byte is 0.
        encodings = ["utf-16-be" if content[0] == 0 else "utf-16-le"]
    for encoding in encodings:
        with suppress(UnicodeDecodeError):
            text = " ".join(content.decode(encoding).split())
            if not any(unicodedata.category(letter) == "Cc" for letter in text):
                return text
    raise ValueError("no text that can be read; save it as UTF-8")


def folder(root: str, name: str) -> Path:
    """The folder of this name, which may not exist yet; ValueError unless it lies within the host's folder."""
    base = folder_paths.get_input_directory() if root == INPUT else folder_paths.get_output_directory()
    target = Path(base) / name.strip()
    if not name.strip() or "\0" in name or not folder_paths.is_within_directory(base, str(target)):
        raise ValueError(
            f"save_folder: {quoted(name)} is not a folder within ComfyUI's {root} folder; give a name such as 'my-dog'."
        )
    if target.resolve() == Path(base).resolve():
        raise ValueError(f"save_folder: {quoted(name)} is ComfyUI's {root} folder itself; name a folder in it.")
    try:
        if target.exists() and not target.is_dir():
            raise ValueError(f"save_folder: {target} is a file; name a folder.")
    except OSError as error:
        raise ValueError(
            f"save_folder: {quoted(name)} cannot be a folder's name ({error.strerror}); give a short one."
        ) from error
    return target


def _files_of(pictures: Sequence[Tensor], files: Sequence[Path], folder: str) -> Iterator[Path]:
    """The file that holds each picture; the same picture twice has a file each, if there are as many."""
    by_content: dict[str, list[Path]] = {}
    for file in files:
        for content in _contents_as_loaded(file):
            by_content.setdefault(content, []).append(file)
    for number, picture in enumerate(pictures, start=1):
        same = by_content.get(_content(_eight_bit(picture)))
        if not same:
            raise ValueError(
                f"save_folder: {quoted(folder)} has pictures, but none of them is image {number}; name the folder "
                "that the images were loaded from, unchanged, or a new folder."
            )
        yield same.pop(0) if len(same) > 1 else same[0]


def _contents_as_loaded(file: Path) -> set[str]:
    """What core's loaders make of the file: its dataset nodes leave it as it lies, *Load Image* turns it upright.

    Nothing, if it is no picture that they could load.
    """
    try:
        image = node_helpers.pillow(Image.open, str(file))
        if image.mode == "I":
            image = image.point(lambda value: value * (1 / 255))
        return {_content(np.asarray(version.convert("RGB"))) for version in (image, ImageOps.exif_transpose(image))}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return set()


def _content(pixels: np.ndarray) -> str:
    """pixels: [H, W, 3], 8 bit."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _eight_bit(picture: Tensor) -> np.ndarray:
    """[3, H, W] in 0…1 → [H, W, 3]."""
    return (picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()
