"""One picture file of any kind that people bring → RGB and mask. Pillow reads it; what a file is, its content says.

HEIC is read where pillow-heif is installed (https://pypi.org/project/pillow-heif).
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps
from torch import Tensor

from ...core_ops.pictures import LATENT_CELL, rgb

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "DIB", "GIF", "JPEG2000", "PPM")
"""Pillow's names of those that are photos or drawings; others of its formats start programs or are no pictures."""
MOST_PIXELS = 178_956_970
"""Above it Pillow itself refuses a file as a decompression bomb; other nodes may have switched that off."""
SOLID = 0.02
"""Standard deviation of the colours, of 1, under which a picture is of one colour."""
DAMAGED = "damaged, or not wholly copied"

_CAMERA_RAW = {".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: np.rot90(values, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""By EXIF orientation: what makes [H, W, …] upright."""
_HIGHEST = (1.0, 255.0, 65535.0, 2.0**31)
"""Of what programs write into files of one number per pixel: white."""


class Unreadable(ValueError):
    """Why a file is no picture for training, in a few words, with what to do."""


@dataclass(frozen=True)
class Picture:
    """pixels: upright, [H, W, 3] in 0…1, transparency laid on white. mask: [H, W] in 0…1, where it was transparent.

    size: width and height of the whole file, upright.
    """

    pixels: Tensor
    size: tuple[int, int]
    mask: Tensor | None = None

    @property
    def solid(self) -> bool:
        """Whether it is (almost) of one colour."""
        return bool(self.pixels.flatten(0, 1).std(dim=0).max() < SOLID)


def read_picture(path: Path, shorter_side: int = 0) -> Picture:
    """The first frame, its shorter side made at most so many pixels; 0 keeps all. Raises `Unreadable`."""
    with _opened(path) as image:
        whole, size = image.size, shrunk(image.size, shorter_side)
        image.draft(None, size)  # A JPEG is decoded at a half, quarter or eighth of its size.
        values = _channels(image, size)
    pixels = torch.from_numpy(np.ascontiguousarray(values))
    if not pixels.isfinite().all():
        raise Unreadable("its values are not finite")
    lies = (size[0] > size[1]) != (pixels.shape[1] > pixels.shape[0])
    upright = whole[::-1] if lies else whole
    alpha = pixels[..., 3] if pixels.shape[-1] == 4 else None
    if alpha is None or bool((alpha == 1).all()):
        return Picture(pixels[..., :3].contiguous(), upright)
    if not bool((alpha > 0).any()):
        raise Unreadable("all of it is transparent")
    return Picture(rgb(pixels).movedim(0, -1).contiguous(), upright, alpha.clone())


def read_mask(path: Path, height: int, width: int) -> Tensor:
    """[height, width] in 0…1: white is what is trained. Raises `Unreadable`, also for another shape and for black."""
    with _opened(path) as image:
        values = _channels(image, image.size)
    mask = values[..., :3].max(axis=-1) * (values[..., 3] if values.shape[-1] == 4 else 1)
    rows, columns = mask.shape
    if abs(columns * height / rows - width) > max(2, 0.01 * width):
        raise Unreadable(f"{columns}×{rows} pixels are another shape than {width}×{height}; make it of the same size")
    if (rows, columns) != (height, width):
        mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR))
    if not mask.max() > 0:
        raise Unreadable("black, so that nothing would be trained; paint the concept white")
    return torch.from_numpy(mask.clip(0, 1))


def as_core_reads(path: Path) -> list[Image.Image]:
    """In RGB: as core's dataset nodes leave it, and as its *Load Image* turns it. Raises `Unreadable`."""
    with _opened(path) as image:
        lying = image.point(lambda value: value * (1 / 255)) if image.mode == "I" else image
        return [version.convert("RGB") for version in (lying, ImageOps.exif_transpose(lying))]


def size_of(path: Path) -> tuple[int, int]:
    """Width and height from the header alone, as they lie in the file. Raises `Unreadable`."""
    with _opened(path) as image:
        return image.size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Whatever is wrong with a file, in the block too, is said as `Unreadable`: decoders raise all kinds of errors."""
    try:
        with open(path, "rb") as file:
            start = file.read(32)
            _recognize(path, start)
            if start[4:8] == b"ftyp" and not _is_whole(file, path.stat().st_size):
                raise Unreadable(DAMAGED)
            file.seek(0)
            with Image.open(file, formats=_formats()) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise Unreadable(f"{width}×{height} pixels are too many; make it smaller")
                if min(width, height) < LATENT_CELL:
                    raise Unreadable(f"{width}×{height} pixels are too few")
                yield image
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(_reason(error)) from error


def _recognize(path: Path, start: bytes) -> None:
    """Raises `Unreadable` for what Pillow would not name, or would take for something else."""
    if not start:
        raise Unreadable("empty")
    if path.suffix.lower() in _CAMERA_RAW:
        raise Unreadable("a camera's raw file; export it as JPEG")
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and "HEIF" not in _formats():
        raise Unreadable("install pillow-heif")


def _is_whole(file: BinaryIO, size: int) -> bool:
    """Whether the boxes of a HEIC or AVIF (ISO/IEC 14496-12) end with the file: of one that was not wholly copied, the
    decoder leaves tiles black and says nothing."""
    place = 0
    while 0 <= place < size:
        file.seek(place)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:  # to the end
            return True
        if length < 8:
            return False
        place += length
    return place == size


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "no picture"
    if isinstance(error, (Image.DecompressionBombError, MemoryError)):
        return "too many pixels; make it smaller"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    return DAMAGED


@functools.cache
def _formats() -> list[str]:
    """Those that this Pillow reads."""
    with suppress(ImportError):
        import pillow_heif  # pyright: ignore[reportMissingImports]

        pillow_heif.register_heif_opener()
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def shrunk(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Width and height with the shorter one at most so large; 0 keeps both."""
    scale = shorter_side / min(size)
    if not 0 < scale < 1:
        return size
    width, height = (max(shorter_side, round(edge * scale)) for edge in size)
    return width, height


def _channels(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3 or 4] in fp32, 0…1: an image brought to a size, as it lies, and then made upright."""
    image.load()
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)  # Once loaded: Pillow turns TIFFs by itself.
    except Exception:  # of a damaged EXIF block, which is no reason to leave the picture out
        turn = 1
    return _TURNS.get(turn, np.asarray)(_as_it_lies(image, size))


def _as_it_lies(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float32)
        bits_16 = image.mode.startswith("I;16") or (image.format == "PNG" and image.mode == "I")
        highest = 65535.0 if bits_16 else next((most for most in _HIGHEST if values.max() <= most), math.inf)
        grey = _resized(Image.fromarray((values / highest).astype(np.float32)), size)
        return np.repeat(np.asarray(grey).clip(0, 1)[..., np.newaxis], 3, axis=-1)  # resampling overshoots
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    eight_bit = image.convert("RGBA") if transparent else _in_rgb(image)
    # As ComfyUI's Load Image divides, so that both give the same values.
    return np.asarray(_resized(eight_bit, size)).astype(np.float32) / 255.0


def _in_rgb(image: Image.Image) -> Image.Image:
    """Colours for print by their profile, where the file has one. RGB stays as it is, as in core."""
    profile = image.info.get("icc_profile")
    source = io.BytesIO(profile) if profile and image.mode == "CMYK" else None
    if image.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    if source is not None:
        with suppress(ImageCms.PyCMSError, OSError):
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted or image.convert("RGB")
    return image.convert("RGB")


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Pillow weighs colours by their transparency here, so that hidden ones do not come through."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
