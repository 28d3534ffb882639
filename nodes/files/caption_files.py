"""Captions beside their pictures, as core's *Load Image-Text (from Folder)* reads them: picture.png, picture.txt.

Leans on `folder_paths.is_within_directory`, which hosts have since 0.28.0.
"""

from __future__ import annotations

import codecs
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import folder_paths
import numpy as np
from PIL import Image
from torch import Tensor

from ...core_ops.quoting import quoted
from . import safe_files
from .picture_files import Unreadable, as_core_reads, read_picture
from .picture_folders import PICTURE_SUFFIXES, with_repeats

INPUT, OUTPUT = "input", "output"
CLOSE = 0.03
"""Mean difference of two sketches, of 1, up to which they are of one picture; decoders differ by a tenth of it."""
_SIDE, _READ_AT, _SAME = 32, 256, 1e-3
LONGEST = 2**16
"""Bytes of a caption's file that is read; a row of 77 tokens takes a hundredth of it."""


@dataclass(frozen=True)
class CaptionPlace:
    """Where one caption goes. picture: the file it describes; new: whether that file is written too. shared: another
    picture of the folder differs in its ending alone."""

    picture: Path
    new: bool
    shared: bool = False

    @property
    def caption(self) -> Path:
        return self.picture.with_name(f"{self.picture.name if self.shared else self.picture.stem}.txt")

    def holds(self, text: str) -> bool:
        try:
            return read_caption(self.caption) == text
        except ValueError:
            return False


def places(root: str, name: str, pictures: Sequence[Tensor], overwrite: bool) -> list[CaptionPlace]:
    """Where the captions of pictures [3, H, W] go in a folder within the host's input or output folder.

    A folder that has pictures must have these, and each caption goes beside its own, found by how it looks: an IMAGE
    does not know its file. Those of an input folder may lie in its folders of repeats. In a new or empty folder
    pictures are written as core's *Save Image-Text* does. Captions that ComfyUI's run before has written are replaced.
    Raises ValueError for a folder elsewhere, for pictures that are not in it, and for captions that would be lost.
    """
    target = folder(root, name)
    folders = (with_repeats(target) if root == INPUT else [target]) if target.is_dir() else ()
    inside = [file for place in folders for file in sorted(place.iterdir())]
    files = [file for file in inside if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file()]
    if files:
        stems = Counter((file.parent, file.stem.lower()) for file in files)
        found = [
            CaptionPlace(file, new=False, shared=stems[file.parent, file.stem.lower()] > 1)
            for file in _files_of(pictures, files, name)
        ]
    else:
        found = [CaptionPlace(target / f"image_{index:05d}.png", new=True) for index, _ in enumerate(pictures)]
    captions = [place.caption for place in found]
    taken = [file for file in captions if file.exists() and not safe_files.written_here(file)]
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
        if not place.holds(caption):  # A file written anew would have Concept Images read the folder again.
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
    """The file that holds each picture, by closeness: programs decode a JPEG differently, and may make it smaller.

    The same picture twice has a file each, if there are as many.
    """
    sketches = [(file, sketch) for file in files for sketch in _sketches_as_loaded(file)]
    taken: set[Path] = set()
    for number, picture in enumerate(pictures, start=1):
        own = _sketch(Image.fromarray(_eight_bit(picture)))
        distances = [(own.distance(sketch), file in taken, index) for index, (file, sketch) in enumerate(sketches)]
        least = min(distances, default=(math.inf, False, 0))[0]
        if least > CLOSE:
            raise ValueError(
                f"save_folder: {quoted(folder)} has pictures, but none of them is picture {number}; name the folder "
                "that the pictures were loaded from, unchanged, or a new folder."
            )
        equal = [(used, distance, index) for distance, used, index in distances if distance <= least + _SAME]
        taken.add(file := sketches[min(equal)[2]][0])
        yield file


@dataclass(frozen=True)
class _Sketch:
    """What remains of a picture in every decoder. values: in 0…1, [SIDE, SIDE, 3]."""

    proportion: float
    values: np.ndarray

    def distance(self, other: _Sketch) -> float:
        """Mean absolute difference; infinite for pictures of other proportions."""
        if not 0.98 < self.proportion / other.proportion < 1.02:
            return math.inf
        return float(np.abs(self.values - other.values).mean())


def _sketch(image: Image.Image) -> _Sketch:
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return _Sketch(image.width / image.height, np.asarray(small).astype(np.float32) / 255)


def _sketches_as_loaded(file: Path) -> list[_Sketch]:
    """What loaders make of the file: ours, and core's, whose dataset nodes leave it as it lies and keep what is hidden.

    Nothing, if it is no picture that they could load.
    """
    try:
        ours = Image.fromarray(_eight_bit(read_picture(file, _READ_AT).pixels.movedim(-1, 0)))
        return [_sketch(image) for image in (ours, *as_core_reads(file))]
    except Unreadable:
        return []


def _eight_bit(picture: Tensor) -> np.ndarray:
    """[3, H, W] in 0…1 → [H, W, 3]."""
    return (picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()
