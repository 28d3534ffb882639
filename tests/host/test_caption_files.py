"""Captions beside their pictures: core's own dataset nodes are the oracle, and nothing is lost or written elsewhere."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import torch
from PIL import Image

CAPTIONS = ["a {} in the snow", "a {} on a rug", "a {} by a lake"]


@pytest.fixture
def folder(comfyui) -> Path:
    """A new folder in the host's input folder."""
    import folder_paths

    target = Path(folder_paths.get_input_directory()) / f"set-{uuid.uuid4().hex[:8]}"
    target.mkdir(parents=True)
    return target


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    """[3, H, W] each, with the values of 8-bit files."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (3, h, w), generator=generator) / 255 for h, w in sizes or [(40, 30)] * 3]


def save(images: list[torch.Tensor], captions: list[str], folder: str, root: str = "input", overwrite: bool = False):
    from core_personalization.nodes.files import caption_files

    caption_files.save(caption_files.places(root, folder, images, overwrite), images, captions)


def loaded_by_core(folder: Path) -> dict[str, torch.Tensor]:
    """Pictures [3, H, W] by their captions."""
    from comfy_extras.nodes_dataset import LoadImageTextDataSetFromFolderNode

    images, texts = LoadImageTextDataSetFromFolderNode.execute(folder.name).args
    return {text: image[0].movedim(-1, 0) for text, image in zip(texts, images, strict=True)}


def assert_paired(folder: Path, captions: list[str], images: list[torch.Tensor]) -> None:
    loaded = loaded_by_core(folder)
    assert loaded.keys() == set(captions)
    assert all(torch.equal(loaded[caption], image) for caption, image in zip(captions, images, strict=True))


def test_a_new_folder_gets_pictures_and_captions_that_core_loads(folder):
    images = pictures((64, 64), (48, 80), (64, 64))
    save(images, CAPTIONS, folder.name)
    assert_paired(folder, CAPTIONS, images)
    assert {file.name for file in folder.iterdir()} == {
        f"image_0000{n}{end}" for n in range(3) for end in (".png", ".txt")
    }


def test_captions_go_beside_the_files_that_the_images_came_from(folder):
    """Found by content: core's folder loader gives no names, and no certain order."""
    from comfy_extras.nodes_dataset import LoadImageDataSetFromFolderNode

    for name, picture in zip(("b.png", "a.JPG", "c.webp"), pictures(), strict=True):
        Image.fromarray((picture * 255).byte().movedim(0, -1).numpy()).save(folder / name)
    (loaded,) = LoadImageDataSetFromFolderNode.execute(folder.name).args
    images = [loaded[index][0].movedim(-1, 0) for index in (2, 0, 1)]
    save(images, CAPTIONS, folder.name)
    assert {file.name for file in folder.iterdir()} == {"a.JPG", "a.txt", "b.png", "b.txt", "c.txt", "c.webp"}
    assert_paired(folder, CAPTIONS, images)


def test_a_picture_that_load_image_turned_upright_is_found(folder):
    (picture,) = pictures((40, 30))
    lying = Image.fromarray((picture * 255).byte().movedim(0, -1).numpy())
    exif = lying.getexif()
    exif[0x0112] = 6  # To be turned by a quarter.
    lying.save(folder / "turned.png", exif=exif)
    upright = picture.rot90(-1, dims=(1, 2))
    save([upright], CAPTIONS[:1], folder.name)
    assert (folder / "turned.txt").read_text() == CAPTIONS[0]


def test_the_same_picture_in_two_files_has_a_caption_beside_each(folder):
    (picture,) = pictures((40, 30))
    save([picture, picture], CAPTIONS[:2], folder.name)
    save([picture, picture], CAPTIONS[1:], folder.name, overwrite=True)
    assert [(folder / f"image_0000{n}.txt").read_text() for n in range(2)] == CAPTIONS[1:]


def test_captions_are_replaced_only_when_asked(folder):
    save(pictures(), CAPTIONS, folder.name)
    for file, caption in zip(sorted(folder.glob("*.txt")), CAPTIONS, strict=True):
        file.unlink()
        file.write_text(caption)  # by hand
    other = [caption.replace("a {}", "one {}") for caption in CAPTIONS]
    with pytest.raises(ValueError, match=r"save_folder: .*image_00000\.txt exists already.*overwrite"):
        save(pictures(), other, folder.name)
    assert_paired(folder, CAPTIONS, pictures())
    save(pictures(), other, folder.name, overwrite=True)
    assert_paired(folder, other, pictures())


def test_a_run_replaces_what_the_run_before_wrote_and_leaves_what_is_the_same(folder):
    """Else its own files would have Concept Images read the folder again, and it would refuse them."""
    from core_personalization.nodes.files.picture_folders import state_of

    save(pictures(), CAPTIONS, folder.name)
    before = state_of(folder)
    save(pictures(), CAPTIONS, folder.name)
    save(pictures(), CAPTIONS, folder.name, overwrite=True)
    assert state_of(folder) == before
    save(pictures(), CAPTIONS[::-1], folder.name)
    assert_paired(folder, CAPTIONS[::-1], pictures())


def test_pictures_of_one_name_have_a_caption_each(folder):
    images = pictures((40, 30), (40, 30))
    for name, image in zip(("a.png", "A.WEBP"), images, strict=True):
        Image.fromarray((image * 255).byte().movedim(0, -1).numpy()).save(folder / name, lossless=True)
    save(images, CAPTIONS[:2], folder.name)
    assert {file.name: file.read_text() for file in folder.glob("*.txt")} == {
        "a.png.txt": CAPTIONS[0], "A.WEBP.txt": CAPTIONS[1]
    }  # fmt: skip
    from core_personalization.nodes.files.picture_folders import listed

    assert {photo.picture.name: photo.caption.name for photo in listed(folder).files} == {
        "a.png": "a.png.txt", "A.WEBP": "A.WEBP.txt"
    }  # fmt: skip


@pytest.mark.parametrize("more", [False, True], ids=["repeats alone", "a picture beside them"])
def test_pictures_of_folders_with_repeats_have_their_captions_there(folder, more):
    """Concept Images lists a copy beside them as one more picture, which the next training would learn from, too."""
    from core_personalization.nodes.files.picture_folders import listed

    files = [folder / "1_others" / "same.png", folder / "3_portraits" / "same.png"]
    files = [folder / "own.png", *files] if more else files
    images = pictures(*[(40, 30)] * len(files))
    for file, image in zip(files, images, strict=True):
        file.parent.mkdir(exist_ok=True)
        Image.fromarray((image * 255).byte().movedim(0, -1).numpy()).save(file)
    before = [photo.name for photo in listed(folder).files]
    save(images, CAPTIONS[: len(files)], folder.name)
    photos = listed(folder).files
    assert [photo.name for photo in photos] == before
    assert {photo.picture: photo.caption.read_text() for photo in photos} == dict(zip(files, CAPTIONS, strict=False))
    assert {file.name for place in {file.parent for file in files} for file in place.glob("*.txt")} <= {
        "same.txt", "own.txt"
    }  # fmt: skip


def test_pictures_that_are_not_in_the_folder_are_refused(folder):
    save(pictures(), CAPTIONS, folder.name)
    with pytest.raises(ValueError, match="none of them is picture 3"):
        save([*pictures()[:2], *pictures((40, 30), seed=1)], CAPTIONS, folder.name, overwrite=True)
    assert_paired(folder, CAPTIONS, pictures())


@pytest.mark.parametrize("name", ["x" * 300, "very long/" * 500])
def test_a_name_too_long_for_the_disk_is_refused(name):
    with pytest.raises(ValueError, match=r"save_folder: .* give a short one"):
        save(pictures(), CAPTIONS, name, "output")


@pytest.mark.parametrize("name", ["", " ", ".", "..", "../elsewhere", "/tmp", "a/../..", "x\0y", "link", "link/x"])
@pytest.mark.parametrize("root", ["input", "output"])
def test_nothing_is_written_outside_comfyuis_folders(comfyui, tmp_path, root, name):
    link = comfyui / root / "link"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path, target_is_directory=True)
    try:
        with pytest.raises(ValueError, match="save_folder"):
            save(pictures(), CAPTIONS, name, root)
        assert list(tmp_path.iterdir()) == []
    finally:
        link.unlink()
