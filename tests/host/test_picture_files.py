"""One picture file of any kind → what is trained: Pillow's plain reading is the oracle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import jpeg, photo, rectangle
from PIL import Image, ImageCms, ImageOps

SIZE = WIDTH, HEIGHT = 48, 32


@pytest.fixture(scope="module", autouse=True)
def host(comfyui):
    """The pack's files know ComfyUI's folders."""


def read(content: bytes | Path, tmp_path: Path, side: int = 0, name: str = "x.jpg"):
    from core_personalization.nodes.files.picture_files import read_picture

    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
        content = tmp_path / name
    return read_picture(content, side)


def refused(content: bytes, tmp_path: Path, name: str = "x.jpg") -> str:
    from core_personalization.nodes.files.picture_files import Unreadable

    with pytest.raises(Unreadable) as error:
        read(content, tmp_path, name=name)
    return str(error.value)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB")).astype(np.float32) / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_photo_is_turned_as_its_exif_says(tmp_path, kind, orientation):
    """sd-scripts #1316: it was trained lying on its side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photo(*SIZE), kind, exif=exif)
    picture = read(content, tmp_path)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert torch.equal(picture.pixels, as_tensor(upright))
    assert picture.size == upright.size and picture.mask is None


def test_an_upright_png_is_what_cores_load_image_gives(tmp_path, comfyui):
    import folder_paths

    from nodes import LoadImage

    file = Path(folder_paths.get_input_directory()) / "upright.png"
    photo(61, 43).save(file)
    core, _ = LoadImage().load_image(file.name)
    assert torch.equal(read(file, tmp_path, side=1024).pixels, core[0])
    file.unlink()


def test_transparency_becomes_the_mask_and_what_it_hides_is_gone(tmp_path):
    """sd-scripts #1269, ComfyUI #1162: garbage under alpha 0 was trained."""
    visible = rectangle(*SIZE, (10, 5, 30, 25))
    pictures = []
    for seed in (1, 2):
        hidden = photo(*SIZE, seed=seed)
        hidden.paste(photo(*SIZE), (0, 0), visible)
        hidden.putalpha(visible)
        pictures.append(read(encoded(hidden, "PNG"), tmp_path))
    assert torch.equal(pictures[0].pixels, pictures[1].pixels)
    assert torch.equal(pictures[0].mask, as_tensor(visible)[..., 0])
    assert (pictures[0].pixels[pictures[0].mask == 0] == 1).all()
    assert torch.equal(pictures[0].pixels[pictures[0].mask == 1], as_tensor(photo(*SIZE))[pictures[0].mask == 1])


@pytest.mark.parametrize("side", [0, 16])
def test_hidden_colours_do_not_come_through_when_it_is_made_smaller(tmp_path, side):
    image = Image.new("RGB", SIZE, (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, WIDTH // 2, HEIGHT))
    image.putalpha(rectangle(*SIZE, (0, 0, WIDTH // 2, HEIGHT)))
    pixels = read(encoded(image, "PNG"), tmp_path, side).pixels
    red_on_white = pixels[..., 0] - pixels[..., 1]
    assert red_on_white.max() <= 0.02


def of_all_kinds() -> dict[str, tuple[bytes, torch.Tensor, float]]:
    """Content, what it shows, and how far compression may depart from that."""
    image, alpha = photo(*SIZE), rectangle(*SIZE, (8, 8, 40, 24))
    shown, grey = as_tensor(image), as_tensor(image.convert("L"))
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    deep = (np.asarray(image.convert("L")).astype(np.uint16) << 8) | 0x80
    frames = {"save_all": True, "lossless": True}
    cut = as_tensor(palette)
    cut[np.asarray(palette) == 3] = 1
    kinds = {
        "16 bit PNG": (encoded(Image.fromarray(deep), "PNG"), grey, 0.01),
        "16 bit TIFF": (encoded(Image.fromarray(deep), "TIFF"), grey, 0.01),
        "float TIFF": (encoded(Image.fromarray(deep.astype(np.float32) / 65535), "TIFF"), grey, 0.01),
        "grey": (encoded(image.convert("L"), "PNG"), grey, 0),
        "grey with alpha": (encoded(image.convert("LA"), "PNG"), grey, 0),
        "one bit": (encoded(alpha.convert("1"), "PNG"), as_tensor(alpha), 0),
        "palette": (encoded(palette, "PNG"), as_tensor(palette), 0),
        "palette with transparency": (encoded(palette, "PNG", transparency=3), cut, 0),
        "CMYK JPEG": (encoded(image.convert("CMYK"), "JPEG", quality=95), shown, 0.1),
        "CMYK TIFF": (encoded(image.convert("CMYK"), "TIFF"), shown, 0.02),
        "animation": (encoded(image, "GIF", save_all=True, append_images=[photo(*SIZE, seed=5)]), shown, 0.25),
        "animated WebP": (encoded(image, "WEBP", append_images=[photo(*SIZE, 5)], **frames), shown, 0),
        "BMP": (encoded(image, "BMP"), shown, 0),
        "WebP": (encoded(image, "WEBP", quality=95), shown, 0.15),
        "JPEG of several pictures": (encoded(image, "MPO", save_all=True, append_images=[image]), shown, 0.15),
        "Lab TIFF": (encoded(ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"),
                             ImageCms.createProfile("LAB"), outputMode="LAB"), "TIFF"), shown, 0.1),
    }  # fmt: skip
    if "AVIF" in Image.SAVE or (Image.init() and "AVIF" in Image.SAVE):
        kinds["AVIF"] = (encoded(image, "AVIF", quality=95), shown, 0.15)
    return kinds


@pytest.mark.parametrize("name", of_all_kinds())
def test_every_kind_of_file_is_read_whatever_its_name_says(tmp_path, name):
    """kohya_ss #1600: all but a few suffixes were passed over in silence."""
    content, shown, tolerance = of_all_kinds()[name]
    for file in ("a.jpg", "a.png", "a.bin"):
        pixels = read(content, tmp_path, name=file).pixels
        assert pixels.dtype == torch.float32
        torch.testing.assert_close(pixels, shown, atol=tolerance, rtol=0)


def test_what_is_no_picture_is_refused_with_its_reason(tmp_path):
    good = jpeg(photo(200, 200))
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    reasons = {
        "install pillow-heif": (heic, "x.heic"),
        "empty": (b"", "x.jpg"),
        "no picture": (b"%PDF-1.4", "x.pdf"),
        "a camera's raw file; export it as JPEG": (encoded(photo(*SIZE), "TIFF"), "x.DNG"),
        "damaged, or not wholly copied": (good[: len(good) // 2], "x.jpg"),
        "4×4 pixels are too few": (encoded(photo(4, 4), "PNG"), "x.png"),
        "all of it is transparent": (encoded(Image.new("RGBA", SIZE), "PNG"), "x.png"),
        "its values are not finite": (encoded(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"), "x.tif"),
    }
    for reason, (content, name) in reasons.items():
        if reason != "install pillow-heif" or not heif_is_there():
            assert refused(content, tmp_path, name) == reason


def heif_is_there() -> bool:
    try:
        import pillow_heif  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("no_limit", [False, True])
def test_a_bomb_is_refused_also_where_another_node_took_pillows_limit_away(tmp_path, monkeypatch, no_limit):
    if no_limit:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "make it smaller" in refused(encoded(Image.new("1", (20000, 9000)), "PNG"), tmp_path)


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (300, 300), (1200, 200), (100, 80)])
def test_larger_photos_are_made_smaller_to_their_shorter_side(tmp_path, size):
    picture = read(jpeg(photo(*size)), tmp_path, side=100)
    height, width, _ = picture.pixels.shape
    assert picture.size == size
    assert min(width, height) == min(*size, 100)
    assert abs(width / height - size[0] / size[1]) < 0.02
    plain = as_tensor(photo(*size).resize((width, height), Image.Resampling.LANCZOS))
    assert float((picture.pixels - plain).abs().mean()) < 0.01


@pytest.mark.parametrize(("rows", "columns"), [(32, 48), (64, 96), (16, 24)])
def test_a_mask_has_the_size_of_its_picture(tmp_path, rows, columns):
    from core_personalization.nodes.files.picture_files import read_mask

    for mode in ("L", "RGB", "1", "P"):
        rectangle(columns, rows, (0, 0, columns // 2, rows)).convert(mode).save(tmp_path / "mask.png")
        mask = read_mask(tmp_path / "mask.png", HEIGHT, WIDTH)
        assert mask.shape == (HEIGHT, WIDTH)
        assert (mask[:, : WIDTH // 2 - 2] == 1).all() and (mask[:, WIDTH // 2 + 2 :] == 0).all()


@pytest.mark.parametrize(("mask", "reason"), [((32, 32), "another shape"), ((48, 32), "black")])
def test_a_mask_of_another_shape_or_of_nothing_is_refused(tmp_path, mask, reason):
    from core_personalization.nodes.files.picture_files import Unreadable, read_mask

    Image.new("L", mask, 0 if reason == "black" else 255).save(tmp_path / "mask.png")
    with pytest.raises(Unreadable, match=reason):
        read_mask(tmp_path / "mask.png", HEIGHT, WIDTH)


MODES = {
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "CMYK", "I;16", "F", "1"),
    "BMP": ("RGB", "L", "1"),
    "GIF": ("P", "L", "RGB"),
    "PPM": ("RGB", "L"),
}


@settings(max_examples=40)
@given(st.data(), st.sampled_from([(kind, mode) for kind, modes in MODES.items() for mode in modes]))
def test_whatever_the_format_size_and_turn_a_picture_comes_out_upright_and_opaque(tmp_path_factory, data, kind):
    kind, mode = kind
    width, height = data.draw(st.integers(8, 70)), data.draw(st.integers(8, 70))
    side, orientation = data.draw(st.sampled_from([0, 8, 20])), data.draw(st.integers(0, 9))
    image = photo(width, height, seed=width)
    image = (
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else image.convert(mode)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if kind in ("BMP", "GIF", "PPM") else {"exif": exif}
    picture = read(encoded(image, kind, **options), tmp_path_factory.getbasetemp(), side)
    turned = bool(options) and orientation in (5, 6, 7, 8)
    assert picture.size == ((height, width) if turned else (width, height))
    assert picture.pixels.shape[2] == 3 and picture.pixels.isfinite().all()
    assert picture.pixels.min() >= 0 and picture.pixels.max() <= 1
    assert not side or min(picture.pixels.shape[:2]) == min(side, width, height)


@settings(max_examples=60)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"]), st.data())
def test_a_damaged_file_is_read_or_refused_in_a_sentence(tmp_path_factory, kind, data):
    from core_personalization.nodes.files.picture_files import Unreadable

    content = bytearray(encoded(photo(*SIZE), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content) - 1, 300)))] = data.draw(st.integers(0, 255))
    try:
        picture = read(bytes(content[: data.draw(st.integers(1, len(content)))]), tmp_path_factory.getbasetemp(), 16)
        assert picture.pixels.isfinite().all()
    except Unreadable as error:
        assert str(error) and len(str(error)) < 120
