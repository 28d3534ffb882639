"""A folder of photos within the host's input folder: its pictures in the natural order of their names, and what belongs
to each by name.

Masks: NAME.mask.png, NAME-mask.png, NAME_mask.png, NAME-masklabel.png (OneTrainer's), or a file of the picture's name
in a folder "mask" or "masks" in it, or in a folder FOLDER_mask or FOLDER_masks beside it (as kohya's are kept).
Captions: NAME.txt, NAME.caption, NAME.jpg.txt.
Repeats, as kohya's trainers have them: the pictures of a folder such as "3_portraits" are drawn three times as often as
those of "1_others" beside it; the folder that holds both is chosen.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import folder_paths

from ...core_ops.quoting import quoted

MOST_FILES = 5000
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".heic", ".heif", ".hif", ".tif", ".tiff"}
PICTURE_SUFFIXES |= {".bmp", ".gif", ".jp2"}
"""Of what makes a folder one of photos; in a chosen folder, contents count and not suffixes."""
CAPTION_SUFFIXES = (".txt", ".caption")

_MASK_FOLDERS = ("mask", "masks")
_MASK_OF = re.compile(r"(?P<name>.+)(?:(?P<sure>\.mask|-masklabel)|[-_]mask)", re.IGNORECASE)
_REPEATED = re.compile(r"([1-9][0-9]{0,2})_.+", re.DOTALL)
_OF_SYSTEMS = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}


@dataclass(frozen=True)
class PhotoFile:
    """A picture, and the mask and the caption of its name. name: for people. repeats: of its folder."""

    picture: Path
    mask: Path | None = None
    caption: Path | None = None
    name: str = ""
    repeats: int = 1


@dataclass(frozen=True)
class PhotoFolder:
    """skipped: by name, why."""

    files: tuple[PhotoFile, ...]
    skipped: dict[str, str]


def folder_names() -> list[str]:
    """Those within the input folder that hold pictures, as the host writes their names; folders of masks are none."""
    base = _base()
    found = []
    for place, folders, files in os.walk(base):
        pictures = any(Path(file).suffix.lower() in PICTURE_SUFFIXES and file[0] != "." for file in files)
        folders[:] = [name for name in folders if name[0] != "." and not (pictures and name.lower() in _MASK_FOLDERS)]
        if pictures and Path(place) != base and not _is_of_masks(Path(place)):
            above = Path(place).parent
            found.append(Path(place).relative_to(base).as_posix())
            if _REPEATED.fullmatch(Path(place).name) and above != base:
                found.append(above.relative_to(base).as_posix())
    return sorted(set(found), key=natural_order)


def photo_folder(name: str) -> Path:
    """Raises ValueError, beginning with "folder", unless it is a folder within the input folder."""
    base = _base()
    try:
        target = (base / name).resolve()
        usable = bool(name.strip()) and target.is_relative_to(base) and target != base
        if usable and target.is_dir():
            return target
    except (OSError, ValueError, RuntimeError):  # of names that no disk takes, and of links that go round
        usable = False
    if not usable:
        raise ValueError(
            f"folder: {quoted(name)} is not a folder within ComfyUI's input folder; press “Upload photos”, or copy "
            "them into a folder there, press r, and choose it."
        )
    raise ValueError(
        f"folder: there is no {quoted(name)} in ComfyUI's input folder; press “Upload photos”, or press r and choose "
        "one."
    )


def listed(folder: Path) -> PhotoFolder:
    """With the pictures of its folders of repeats, each folder in its turn.

    Raises ValueError, beginning with "folder", for more files than anybody trains on.
    """
    base, found, skipped = _base(), list[PhotoFile](), dict[str, str]()
    for place in with_repeats(folder):
        above = f"{place.name}/" if place != folder else ""
        repeats = _REPEATED.fullmatch(place.name)
        photos, without = _listed_alone(place, base)
        skipped |= {above + name: reason for name, reason in without.items()}
        count = int(repeats[1]) if repeats else 1
        found += [replace(photo, name=above + photo.picture.name, repeats=count) for photo in photos]
    return PhotoFolder(tuple(found), skipped)


def _listed_alone(folder: Path, base: Path) -> tuple[list[PhotoFile], dict[str, str]]:
    """Of this folder by itself: its pictures in the order of their names, and what is skipped, with the reason."""
    skipped: dict[str, str] = {}
    kept: list[Path] = []
    for file in _entries(folder):
        reason = _set_aside(file, base)
        if reason:
            skipped[file.name] = reason
        elif reason is None:
            kept.append(file)
    texts = [file for suffix in reversed(CAPTION_SUFFIXES) for file in kept if file.suffix.lower() == suffix]
    captions = {_key(file.stem): file for file in texts}
    rest = [file for file in kept if file not in texts]
    names = {_key(name) for file in rest for name in (file.stem, file.name)}
    named = {file: match for file in rest if (match := _MASK_OF.fullmatch(file.stem))}
    masks = _masks_in_folders(folder, base)
    masks |= {_key(match["name"]): file for file, match in named.items() if _key(match["name"]) in names}
    pictures = []
    for file in rest:
        if file in named and (named[file]["sure"] or _key(named[file]["name"]) in names):
            continue
        keys = (_key(file.name), _key(file.stem))
        mask, caption = (next(filter(None, map(found.get, keys)), None) for found in (masks, captions))
        pictures.append(PhotoFile(file, mask, caption))
    used = {file for photo in pictures for file in (photo.mask, photo.caption)}
    for kind, files in (("caption", texts), ("mask", [*named, *masks.values()])):
        alone = [file for file in files if file not in used and all(file != photo.picture for photo in pictures)]
        skipped |= {file.name: f"a {kind} without its picture" for file in alone}
    return sorted(pictures, key=lambda photo: natural_order(photo.picture.name)), skipped


def with_repeats(folder: Path) -> list[Path]:
    """The folder, and those of repeats in it: where its pictures are."""
    found = [place for place in _entries(folder) if _REPEATED.fullmatch(place.name) and place.is_dir()]
    inside = [place for place in found if _set_aside(place, _base()) == "" and not _is_of_masks(place)]
    return [folder, *sorted(inside, key=lambda place: natural_order(place.name))]


def state_of(folder: Path) -> str:
    """Another one when a picture, mask or caption came, went or was written anew; not with what systems keep there."""
    digest, base = hashlib.sha256(), _base()
    folders = with_repeats(folder)
    for place in (*folders, *(masks for each in folders for masks in _mask_folders(each))):
        for file in sorted(file for file in _entries(place) if _set_aside(file, base) is None):
            try:
                stat = file.stat()
            except OSError:
                continue
            digest.update(repr((str(file), stat.st_size, stat.st_mtime_ns)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key: photo-2 comes before photo-10, whatever the letters' case."""
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFC", name).casefold())
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts], name


def _entries(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= MOST_FILES:
                raise ValueError(
                    f"folder: {quoted(folder.name)} has more than {MOST_FILES} files; choose a folder that holds the "
                    "photos of the concept alone."
                )
            yield folder / entry.name


def _set_aside(file: Path, base: Path) -> str | None:
    """Why an entry is skipped; nothing to say of a folder of masks is "", and None that it may be a picture."""
    if file.name.startswith(".") or file.name.lower() in _OF_SYSTEMS:
        return "hidden"
    try:
        if not file.resolve().is_relative_to(base):
            return "a link that leads out of ComfyUI's input folder"
        if file.is_dir():
            known = file.name.lower() in _MASK_FOLDERS or _REPEATED.fullmatch(file.name)
            return "" if known else "a folder; choose it by itself"
        return None if file.is_file() else "no file"
    except (OSError, RuntimeError):
        return "cannot be opened"


def _masks_in_folders(folder: Path, base: Path) -> dict[str, Path]:
    return {
        _key(_MASK_OF.sub(r"\g<name>", file.stem)): file
        for place in reversed(_mask_folders(folder))
        for file in _entries(place)
        if _set_aside(file, base) is None
    }


def _mask_folders(folder: Path) -> list[Path]:
    within = [place for place in _entries(folder) if place.name.lower() in _MASK_FOLDERS]
    places = [*within, *(Path(f"{folder}_{name}") for name in _MASK_FOLDERS)]
    return [place for place in places if place.is_dir() and place.resolve().is_relative_to(_base())]


def _is_of_masks(folder: Path) -> bool:
    name, _, end = folder.name.lower().rpartition("_")
    return bool(name) and end in _MASK_FOLDERS and (folder.parent / folder.name[: len(name)]).is_dir()


def _base() -> Path:
    return Path(folder_paths.get_input_directory()).resolve()


def _key(name: str) -> str:
    """Disks differ in upper and lower case, and in how they write an accent."""
    return unicodedata.normalize("NFC", name).casefold()
