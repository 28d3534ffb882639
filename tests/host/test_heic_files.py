"""HEIC as phones write it: tiles in a grid, turned in the container and in Exif, in ten bits, with a map of depths."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photo_files import photo
from PIL import Image, ImageOps

pillow_heif: Any = pytest.importorskip("pillow_heif")
SIZE = WIDTH, HEIGHT = 320, 192
TILE = 64
ORIENTATION = 0x0112


@pytest.fixture(scope="module", autouse=True)
def host(comfyui):
    """The pack's files know ComfyUI's folders."""


def exif(orientation: int) -> bytes:
    told = Image.Exif()
    told[ORIENTATION] = orientation
    return told.tobytes()


def heic(bits: int = 8, orientation: int = 1, more: tuple[Image.Image, ...] = ()) -> bytes:
    """more: further images of the file."""
    pixels = np.asarray(photo(*SIZE))
    mode, data = "RGB", pixels
    if bits > 8:
        mode, data = "RGB;16", pixels.astype(np.uint16) * 257
    file = pillow_heif.from_bytes(mode, SIZE, data.tobytes())
    for image in more:
        file.add_from_pillow(image)
    content = io.BytesIO()
    # With all resolution of the colours, so that what is read can be compared.
    file.save(content, primary_index=0, exif=exif(orientation), quality=95, chroma=444, tile_size=TILE)
    return content.getvalue()


def upright(orientation: int) -> np.ndarray:
    """What should be read, by Pillow."""
    content = io.BytesIO()
    photo(*SIZE).save(content, "PNG", exif=exif(orientation))
    return np.asarray(ImageOps.exif_transpose(Image.open(content))).astype(np.float32) / 255


def read(content: bytes, folder: Path, side: int = 0) -> Any:
    from core_personalization.nodes.files.picture_files import read_picture

    (folder / "IMG_0001.HEIC").write_bytes(content)
    return read_picture(folder / "IMG_0001.HEIC", side)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 10])
def test_a_phones_photo_is_upright_once_whichever_place_says_how_it_lies(tmp_path, bits, orientation):
    """Turned by both, it would lie again."""
    content = heic(bits, orientation)
    assert all(name in content for name in (b"grid", b"hvc1", b"Exif"))
    assert orientation == 1 or any(name in content for name in (b"irot", b"imir"))
    picture, expected = read(content, tmp_path), upright(orientation)
    assert tuple(picture.pixels.shape) == expected.shape and picture.mask is None
    assert picture.size == expected.shape[1::-1]
    assert (picture.pixels - torch.from_numpy(expected)).abs().mean() < 0.02


def test_of_several_images_in_a_file_the_first_is_trained_and_no_map_becomes_a_mask(tmp_path):
    depth = Image.fromarray(np.full((HEIGHT // 2, WIDTH // 2), 90, np.uint8))
    picture = read(heic(more=(photo(96, 64, seed=4), depth)), tmp_path)
    assert picture.mask is None
    assert (picture.pixels - torch.from_numpy(upright(1))).abs().mean() < 0.02


def test_it_is_made_smaller_while_it_is_read_and_keeps_its_turn(tmp_path):
    picture = read(heic(orientation=6), tmp_path, side=96)
    assert tuple(picture.pixels.shape) == (160, 96, 3) and picture.size == (HEIGHT, WIDTH)


def test_ten_bits_are_not_cut_to_a_part_of_the_brightness(tmp_path):
    picture = read(heic(10), tmp_path)
    assert picture.pixels.max() > 0.9 and picture.pixels.max() <= 1


@pytest.mark.parametrize("part", [0.05, 0.3, 0.9, 0.999])
def test_one_that_was_not_wholly_copied_is_refused_in_a_sentence(tmp_path, part):
    """The decoder leaves the missing tiles black, and says nothing."""
    from core_personalization.nodes.files.picture_files import Unreadable

    content = heic()
    with pytest.raises(Unreadable, match="damaged, or not wholly copied"):
        read(content[: int(part * len(content))], tmp_path)
