"""From a folder of photos to pictures, masks and captions, and what the user is told of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

import psutil
import torch
from torch import Tensor

from ...core_ops.pictures import MUCH_ENLARGED, USUAL_SIDE
from ...core_ops.quoting import quoted, shortened
from ..files.caption_files import read_caption
from ..files.picture_files import Picture, Unreadable, read_mask, read_picture, shrunk, size_of
from ..files.picture_folders import PhotoFile, PhotoFolder
from ..labels import LABELS
from .photo_settings import PhotoSettings

AT_ONCE = 4
"""Photos that are decoded at a time."""
BYTES_PER_PIXEL = 12
FEW = 3
"""Names that a sentence has room for."""


@dataclass(frozen=True)
class Photo:
    """size: width and height that are trained. caption: with {} once, or empty; mentions: how often the file's caption
    named the concept; complaint: why it was not read. repeats: how often it is drawn, compared with the others."""

    name: str
    picture: Picture
    size: tuple[int, int]
    caption: str = ""
    mentions: int = 0
    complaint: str = ""
    repeats: int = 1

    @property
    def mask(self) -> Tensor:
        """[H, W]; white, without taking memory, where there is none."""
        height, width = self.picture.pixels.shape[:2]
        return torch.ones(1, 1).expand(height, width) if self.picture.mask is None else self.picture.mask


@dataclass(frozen=True)
class PhotoSet:
    """photos: those that were read. more: how many were not decoded. skipped: by name, why. notes: for the user."""

    photos: Sequence[Photo]
    more: int
    skipped: dict[str, str]
    notes: Sequence[str]

    @property
    def summary(self) -> str:
        """Such as "12 pictures, 2 skipped: a.heic (install pillow-heif), notes.pdf (no picture)"."""
        told = _pictures(len(self.photos) + self.more)
        return f"{told}, {len(self.skipped)} skipped: {_with_reasons(self.skipped)}" if self.skipped else told

    @property
    def report(self) -> str:
        captions = _captions(sum(bool(photo.caption) for photo in self.photos))
        with_mask = sum(photo.picture.mask is not None for photo in self.photos)
        masks = _count(with_mask, "no masks", "1 mask", f"{with_mask} masks")
        found = f"{captions}, {masks} of the first {len(self.photos)} pictures" if self.more else f"{captions}, {masks}"
        return "\n".join((self.summary, found, *(f"Note: {note}" for note in self.notes)))


def read_photos(
    folder: PhotoFolder,
    settings: PhotoSettings,
    side: int,
    told: Callable[[int, str], None] | None = None,
    most: int | None = None,
) -> PhotoSet:
    """Its pictures, their shorter side at most `side` pixels, a few at a time; after the first `most` headers alone.

    told: called after each with how many are done, and its name; what it raises ends the reading.
    Raises ValueError, beginning with the input's name, where there is no picture, or no memory for them.
    """
    skipped, readable = dict(folder.skipped), dict[PhotoFile, tuple[int, int]]()
    for file in folder.files:
        try:
            readable[file] = shrunk(size_of(file.picture), settings.shorter_side)
        except Unreadable as error:
            skipped[file.name] = str(error)
    if most is None:
        _validate_room(readable.values())
    files, photos = list(readable)[:most], list[Photo]()
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        read = pool.map(lambda file: _read(file, settings, side), files)
        for number, (file, photo) in enumerate(zip(files, read, strict=True), start=1):
            if isinstance(photo, Photo):
                photos.append(photo)
            else:
                skipped[file.name] = photo
            if told is not None:
                told(number, file.name)
    finally:
        pool.shutdown(cancel_futures=True)
    if not photos:
        why = f" ({_with_reasons(skipped)})" if skipped else ""
        raise ValueError(f"folder: it has no picture that can be read{why}; choose one with photos in it.")
    return PhotoSet(photos, len(readable) - len(files), skipped, _notes(photos))


def _read(file: PhotoFile, settings: PhotoSettings, side: int) -> Photo | str:
    """The photo, or why it is skipped."""
    try:
        picture = read_picture(file.picture, side)
    except Unreadable as error:
        return str(error)
    if file.mask is not None:
        try:
            mask = read_mask(file.mask, *picture.pixels.shape[:2])
        except Unreadable as error:
            return f"its mask {shortened(file.mask.name, 60)}: {error}"
        picture = replace(picture, mask=mask if picture.mask is None else mask * picture.mask)
    size = shrunk(picture.size, settings.shorter_side)
    photo = Photo(file.name, picture, size, repeats=file.repeats)
    if file.caption is None:
        return photo
    try:
        caption, mentions = settings.template(read_caption(file.caption))
    except ValueError as error:
        return replace(photo, complaint=f"{shortened(file.caption.name, 60)} ({error})")
    return replace(photo, caption=caption, mentions=mentions)


def _validate_room(sizes: Iterable[tuple[int, int]]) -> None:
    """Raises ValueError when memory has no room for all of them, before any is decoded."""
    pixels = [width * height for width, height in sizes]
    needed, free = sum(pixels) * BYTES_PER_PIXEL, psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"shorter_side: {_pictures(len(pixels))} take {needed / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} are free; lower it to 512, or choose a folder with fewer photos."
        )


def _notes(photos: Sequence[Photo]) -> list[str]:
    """What is legal and unwise."""
    solid = [photo.name for photo in photos if photo.picture.solid]
    small = [photo.name for photo in photos if min(photo.size) * MUCH_ENLARGED < USUAL_SIDE]
    unnamed = [photo for photo in photos if photo.caption and not photo.mentions]
    twice = [photo.name for photo in photos if photo.mentions > 1]
    unread = [photo.complaint for photo in photos if photo.complaint]
    without = [photo.name for photo in photos if not photo.caption and not photo.complaint]
    notes = [f"{_few(same)} are the same picture; keep one of them." for same in _doubles(photos)]
    if {photo.repeats for photo in photos} == {photos[0].repeats} and photos[0].repeats > 1:
        told = f"all pictures have {photos[0].repeats} repeats, by the name of their folder"
        notes.append(f"{told}, which changes nothing here: the steps say how long is trained.")
    if solid:
        notes.append(f"of (almost) one colour: {_few(solid)}; take them out, unless you mean it.")
    if small:
        blur = f"enlarged more than twice at {USUAL_SIDE} pixels, which is learned as blur"
        notes.append(f"small, so that they are {blur}: {_few(small)}; use larger ones.")
    if unnamed:
        told = f"{_captions(len(unnamed))} did not name the concept, such as {quoted(unnamed[0].caption)}"
        notes.append(f"{told}; where a word in them stands for it, write it in “{LABELS['concept_words']}”.")
    if twice:
        notes.append(f"the concept is named more than once in the captions of {_few(twice)}; the first place is taken.")
    if unread:
        notes.append(f"captions that were not read: {_few(unread)}.")
    if without and len(without) < len(photos):
        notes.append(f"without a caption, so that the training node's is taken: {_few(without)}.")
    return notes


def _doubles(photos: Sequence[Photo]) -> list[list[str]]:
    """Names of pictures with the same pixels, together."""
    sums: dict[int, list[Photo]] = {}
    for photo in photos:
        sums.setdefault(zlib.crc32(photo.picture.pixels.numpy().data), []).append(photo)
    found = (
        [photo.name for photo in same if torch.equal(photo.picture.pixels, same[0].picture.pixels)]
        for same in sums.values()
    )
    return [names for names in found if len(names) > 1]


def _with_reasons(skipped: dict[str, str]) -> str:
    by_reason = sorted(skipped, key=lambda name: (skipped[name], name))
    return ", ".join(f"{_few(list(names))} ({reason})" for reason, names in groupby(by_reason, key=skipped.__getitem__))


def _pictures(number: int) -> str:
    return _count(number, "no pictures", "1 picture", f"{number} pictures")


def _captions(number: int) -> str:
    return _count(number, "no captions", "1 caption", f"{number} captions")


def _count(number: int, none: str, one: str, more: str) -> str:
    return (none, one, more)[min(number, 2)]


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(shortened(name, 60) for name in names[:FEW])
    return shown if len(names) <= FEW else f"{shown} and {len(names) - FEW} more"
