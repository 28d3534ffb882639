"""Concept Images: a folder as people have it → pictures, masks and captions; what was not taken is named."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import jpeg, photo, photo_folder, rectangle
from PIL import Image

CAPTION = "a photo of a {} in the snow"


@pytest.fixture
def folder(comfyui) -> Path:
    """A new folder in the host's input folder."""
    return new_folder()


def new_folder() -> Path:
    import folder_paths

    target = Path(folder_paths.get_input_directory()) / f"photos-{uuid.uuid4().hex[:8]}"
    target.mkdir(parents=True)
    return target


def load(folder: Path | str, **inputs):
    """images, masks, captions, report, sheet"""
    from core_personalization.nodes.photos.concept_images import ConceptImages

    with torch.inference_mode():
        return ConceptImages.execute(folder if isinstance(folder, str) else folder.name, **inputs).args[:5]


def look(folder: Path | str, **inputs):
    from core_personalization.nodes.photos.photo_sheet import look

    return look({"folder": folder if isinstance(folder, str) else folder.name, **inputs})


def save(folder: Path, *names: str, size: tuple[int, int] = (300, 300)) -> None:
    for name in names:
        photo(*size, seed=sum(name.encode())).save(folder / name)


def refusal(folder: Path | str, **inputs) -> str:
    with pytest.raises(ValueError) as error:
        load(folder, **inputs)
    return str(error.value)


def test_a_folder_of_all_kinds_of_files_says_what_was_taken_and_what_not(folder):
    """kohya_ss #1600, replicate/dreambooth #23."""
    save(folder, "a.jpg", "b.avif", "c.tiff", "d.webp", "e.bmp")
    (folder / "f.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (folder / "notes.pdf").write_bytes(b"%PDF")
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"\0\0\0\1Bud1")
    images, masks, captions, report, _ = load(folder)
    assert len(images) == len(masks) == len(captions) == 5
    first = report.splitlines()[0]
    assert first.startswith("5 pictures, 5 skipped: ")
    assert ".DS_Store, ._a.jpg, Thumbs.db (hidden)" in first and "notes.pdf (no picture)" in first
    assert re.search(r"f\.heic[^()]*\(", first)  # without pillow-heif for another reason than with it


def test_what_a_folder_holds_is_seen_before_the_run(folder):
    photo_folder(folder)
    seen = look(folder, shorter_side="1024", concept_words="sks", super_category="cat", start="")
    assert seen["text"] == load(folder, super_category="cat")[3]
    assert seen["text"].startswith("3 pictures, 1 skipped: notes.pdf (no picture)\n1 caption, 1 mask\n")
    assert seen["picture"].startswith("data:image/jpeg;base64,")
    assert folder.name in seen["folders"]


def test_pictures_come_in_the_natural_order_of_their_names(folder):
    """ComfyUI #15925: as each disk liked."""
    names = ["img-1.png", "IMG-2.png", "img-10.png", "img-10a.png", "z.png", "ä.png"]
    for number, name in enumerate(names):
        photo(300 + number, 300).save(folder / name)
    assert [image.shape[2] for image in load(folder)[0]] == [300 + number for number in range(len(names))]


@pytest.mark.parametrize(
    "mask",
    [
        *("cat.mask.png", "cat-masklabel.png", "cat_mask.png", "CAT-mask.webp", "cat.jpg.mask.png"),
        *("mask/cat.png", "masks/cat.webp", "Mask/cat-masklabel.png", "../{}_mask/cat.png"),
    ],
)
def test_masks_are_found_by_name_whatever_trainer_they_were_made_for(folder, mask):
    (folder / "cat.jpg").write_bytes(jpeg(photo(300, 200)))
    save(folder, "dog.png", "venetian_mask.png")
    file = folder / mask.format(folder.name)
    file.parent.mkdir(exist_ok=True)
    rectangle(300, 200, (10, 20, 100, 120)).save(file, lossless=True)
    images, masks, _, report, _ = load(folder)
    assert len(images) == 3 and "3 pictures\nno captions, 1 mask" in report
    assert masks[0].shape == (1, 200, 300) and masks[0].sum() == 90 * 100
    assert all((other == 1).all() and other.shape[1:] == (300, 300) for other in masks[1:])


def test_a_mask_follows_its_turned_and_smaller_picture(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "a.jpg").write_bytes(jpeg(photo(600, 400), exif=exif))
    rectangle(400, 600, (0, 0, 200, 600)).save(folder / "a.mask.png")
    images, masks, *_ = load(folder, shorter_side=200)
    assert images[0].shape == (1, 300, 200, 3) and masks[0].shape == (1, 300, 200)
    assert (masks[0][..., :98] == 1).all() and (masks[0][..., 102:] == 0).all()


@pytest.mark.parametrize(
    ("mask", "reason"),
    [(Image.new("L", (30, 30), 255), "another shape"), (Image.new("L", (300, 300)), "black"), (b"%PDF", "no picture")],
)
def test_a_picture_whose_mask_cannot_be_used_is_named(folder, mask, reason):
    save(folder, "b.png")
    save(folder, "a.png", size=(300, 300) if reason == "black" else (300, 200))
    if isinstance(mask, bytes):
        (folder / "a.mask.png").write_bytes(mask)
    else:
        mask.save(folder / "a.mask.png")
    assert f"1 picture, 1 skipped: a.png (its mask a.mask.png: {reason}" in load(folder)[3].replace(
        "30×30 pixels are another shape", "another shape"
    )


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_captions_are_read_in_every_usual_encoding(folder, encoding, line_end):
    """A1111 #3657, ai-toolkit #113; musubi-tuner #834: several lines are one caption."""
    save(folder, "a.png")
    text = line_end.join(("a photo of a {} in a café,", "", "by night", ""))
    (folder / "a.txt").write_bytes(text.encode(encoding))
    assert load(folder)[2] == ["a photo of a {} in a café, by night"]


@settings(max_examples=30)
@given(
    caption=st.text(st.characters(codec="latin-1", categories=["L", "N", "P", "Zs"]), max_size=60),
    encoding=st.sampled_from(ENCODINGS[:3]),
    suffix=st.sampled_from([".txt", ".caption", ".TXT", ".jpg.txt"]),
    word=st.sampled_from(["sks", "ohwx", "[trigger]", "TOK", "{}"]),
)
def test_whatever_a_caption_says_it_has_the_concept_once_or_is_empty(comfyui, caption, encoding, suffix, word):
    from core_personalization.core_ops.prompts.prompt_templates import validate_template

    folder = new_folder()
    for name, text in (("a", caption), ("b", f"{caption} {word}")):
        (folder / f"{name}.jpg").write_bytes(jpeg(photo(16, 16, seed=ord(name))))
        (folder / f"{name}{suffix}").write_bytes(text.encode(encoding))
    for text, given_text in zip(load(folder)[2], (caption, word), strict=True):
        assert bool(text) == bool(given_text.split())
        if text:
            validate_template("captions", text)
    shutil.rmtree(folder)


def test_a_caption_that_is_no_text_is_named(folder):
    save(folder, "a.png", "b.png")
    (folder / "a.txt").write_bytes(jpeg(photo(50, 50)))
    (folder / "b.txt").write_text(CAPTION)
    (folder / "c.txt").write_text(CAPTION)
    _, _, captions, report, _ = load(folder)
    assert captions == ["", CAPTION]
    assert "Note: captions that were not read: a.txt (no text that can be read; save it as UTF-8)." in report
    assert "1 skipped: c.txt (a caption without its picture)" in report


def test_captions_of_other_trainers_name_the_concept(folder):
    """kohya_ss #2401, fluxgym #77."""
    texts = ["photo of sks dog in the snow", "[trigger], on a wooden floor", "1girl, solo", "a TOK near a TOK"]
    save(folder, *(f"{number}.png" for number in range(5)))
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text)
    _, _, captions, report, _ = load(folder, super_category="dog")
    assert captions == [
        "photo of {} in the snow",
        "{}, on a wooden floor",
        "a photo of a {}, 1girl, solo",
        "a {} near it",
        "",
    ]
    assert "Note: 1 caption did not name the concept, such as 'a photo of a {}, 1girl, solo'" in report
    assert "more than once in the captions of 3.png" in report
    assert "Note: without a caption, so that the training node's is taken: 4.png." in report
    other = load(folder, super_category="dog", concept_words="1girl", start="art of {}")[2]
    assert other[:3] == ["photo of sks {} in the snow", "art of {}, [trigger], on a wooden floor", "{}, solo"]


def test_doubles_one_colour_and_small_pictures_are_named(folder):
    """torchvision #2218, OneTrainer #646."""
    save(folder, "a.png", "b.png")
    shutil.copy(folder / "a.png", folder / "again.png")
    Image.new("RGB", (300, 300), (7, 7, 7)).save(folder / "night.png")
    photo(40, 40).save(folder / "tiny.png")
    report = load(folder)[3]
    assert look(folder)["text"] == report
    assert "Note: a.png, again.png are the same picture" in report
    assert "Note: of (almost) one colour: night.png" in report
    assert "enlarged more than twice at 512 pixels, which is learned as blur: tiny.png" in report


def test_a_folder_that_changes_is_noticed(folder):
    from core_personalization.nodes.photos.concept_images import ConceptImages

    photo_folder(folder)
    (folder / "mask").mkdir()
    seen = {ConceptImages.fingerprint_inputs(folder.name)}
    assert ConceptImages.fingerprint_inputs(folder.name) in seen
    changes = [
        lambda: save(folder, "new.png"),
        lambda: (folder / "new.png").rename(folder / "renamed.png"),
        lambda: (folder / "renamed.txt").write_text(CAPTION),
        lambda: (folder / "renamed.txt").write_text(CAPTION.replace("snow", "rain")),
        lambda: rectangle(300, 300, (0, 0, 9, 9)).save(folder / "mask" / "renamed.png"),
        lambda: (folder / "cat-3.png").unlink(),
    ]
    for number, change in enumerate(changes, start=1):
        change()
        for file in folder.glob("renamed.*"):
            later = time.time() + number
            os.utime(file, (later, later))  # Clocks of some disks are coarse.
        seen.add(ConceptImages.fingerprint_inputs(folder.name))
        assert len(seen) == number + 1
    for name in (".DS_Store", "Thumbs.db", "originals/cat-1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"of a system, or of none of the pictures")
        assert ConceptImages.fingerprint_inputs(folder.name) in seen


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "../elsewhere", "/tmp", "a/../..", "x\0y", "x" * 400, "out", "none"]
)
def test_a_folder_elsewhere_is_refused_at_run(comfyui, tmp_path, name):
    from core_personalization.nodes.photos.concept_images import ConceptImages

    link = comfyui / "input" / "out"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path, target_is_directory=True)
    try:
        for refused in (load, lambda name: ConceptImages.validate_inputs(folder=name)):
            with pytest.raises(ValueError, match=r"folder: .*press r"):
                refused(name)
    finally:
        link.unlink()


def test_links_that_lead_out_and_folders_are_named(folder, tmp_path):
    save(folder, "a.png")
    save(tmp_path, "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "more").mkdir()
    report = load(folder)[3]
    assert "link.png (a link that leads out of ComfyUI's input folder)" in report
    assert "more (a folder; choose it by itself)" in report


def test_ten_thousand_files_end_in_a_sentence(folder, monkeypatch):
    from core_personalization.nodes.files import picture_folders

    monkeypatch.setattr(picture_folders, "MOST_FILES", 3)
    save(folder, *(f"{number}.png" for number in range(4)))
    assert refusal(folder).startswith(f"folder: '{folder.name}' has more than 3 files; choose a folder")


def test_more_photos_than_memory_has_room_for_are_refused_before_they_are_decoded(folder, monkeypatch):
    from core_personalization.nodes.photos import photo_set

    save(folder, "a.png", "b.png")
    monkeypatch.setattr(photo_set, "read_picture", lambda *_: pytest.fail("a picture was decoded"))
    monkeypatch.setattr(photo_set, "BYTES_PER_PIXEL", 2**40)
    assert refusal(folder).startswith("shorter_side: 2 pictures take ")


@pytest.mark.parametrize("inputs", [{"shorter_side": 7}, {"shorter_side": -8}, {"start": "no place"}])
def test_settings_that_cannot_be_are_refused_at_run(folder, inputs):
    from core_personalization.nodes.photos.concept_images import ConceptImages
    from core_personalization.nodes.photos.photo_settings import PhotoSettings

    save(folder, "a.png")
    for refused in (load, lambda folder, **given: ConceptImages.validate_inputs(folder=folder.name, **given)):
        with pytest.raises(ValueError, match=f"{next(iter(inputs))}: "):
            refused(folder, **(vars(PhotoSettings()) | inputs))


def test_a_folder_without_a_picture_is_refused_with_the_reason(folder):
    (folder / "a.pdf").write_bytes(b"%PDF")
    assert "has no picture that can be read (a.pdf (no picture))" in refusal(folder)


def test_folders_with_pictures_are_listed_and_those_of_masks_are_not(folder):
    from core_personalization.nodes.files.picture_folders import folder_names

    inner = folder / "10_sks dog"
    for place in (inner, inner / "mask", Path(f"{inner}_mask"), folder / ".hidden"):
        place.mkdir()
        save(place, "a.png")
    (folder / "empty").mkdir()
    # A folder of repeats is chosen by itself, or with those beside it.
    expected = [folder.name, f"{folder.name}/10_sks dog"]
    assert [name for name in folder_names() if name.startswith(folder.name)] == expected
    assert len(load(f"{folder.name}/10_sks dog")[0]) == 1


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (200, 200)])
def test_every_picture_is_on_the_sheet_with_what_each_fit_keeps_of_it(comfyui, size):
    from core_personalization.nodes.contact_sheet import CELL, Shown, contact_sheet

    colours = [*torch.eye(3).flip(0).tolist(), [0.5, 0.0, 0.5], [0.0, 0.4, 0.4]]
    pictures = [torch.tensor(colour).expand(*size, 3) for colour in colours]
    sheet = contact_sheet([Shown(each, None, "a", "b") for each in pictures])[0]

    def count(colour) -> int:
        return int(((sheet - torch.tensor(colour)).abs() < 0.01).all(-1).sum())

    area = min(size) / max(size) * CELL**2
    assert all(0.9 * area < count(colour) <= area + 1 for colour in colours)
    green, yellow = (count([channel / 255 for channel in frame]) for frame in ((74, 222, 128), (250, 204, 21)))
    oblong = size[0] != size[1]
    # Of the crop's square, and of nearly the whole picture. The letters of the legend are few.
    assert (green > 4 * CELL and yellow > 2 * CELL) if oblong else green == yellow == 0


def test_the_sheet_shows_the_first_of_many_and_says_how_many_more(folder):
    from core_personalization.nodes.contact_sheet import MOST_SHOWN

    for number in range(MOST_SHOWN + 2):
        photo(16, 16, seed=number).save(folder / f"{number}.png")
    assert look(folder)["text"].startswith(f"{MOST_SHOWN + 2} pictures\nno captions, no masks of the first 24 pictures")
    images, *_, sheet = load(folder)
    assert len(images) == MOST_SHOWN + 2 and sheet.shape[0] == 1 and sheet.shape[3] == 3


def test_few_photos_are_decoded_at_a_time_and_only_their_training_size_is_kept(folder, monkeypatch):
    from core_personalization.nodes.files import picture_files
    from core_personalization.nodes.photos import photo_set

    content, at_once, most = jpeg(photo(2000, 1500)), [0], [0]
    for number in range(12):
        (folder / f"{number}.jpg").write_bytes(content)

    def watched(path, side):
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        picture = picture_files.read_picture(path, side)
        at_once[0] -= 1
        return picture

    monkeypatch.setattr(photo_set, "read_picture", watched)
    images = load(folder, shorter_side=64)[0]
    assert most[0] <= photo_set.AT_ONCE
    assert all(image.untyped_storage().nbytes() == 64 * 85 * 12 for image in images)


def test_cancel_stops_the_reading(folder, monkeypatch):
    from core_personalization.nodes.host import run_control
    from core_personalization.nodes.photos import photo_set

    save(folder, *(f"{number}.png" for number in range(40)), size=(400, 400))
    read = []
    original = photo_set.read_picture
    monkeypatch.setattr(photo_set, "read_picture", lambda path, side: read.append(path) or original(path, side))

    def cancelled():
        raise run_control.Cancelled

    monkeypatch.setattr(run_control, "check_cancelled", cancelled)
    with pytest.raises(run_control.Cancelled):
        load(folder)
    assert len(read) < 20


def test_captions_are_saved_beside_photos_that_concept_images_made_smaller(folder):
    """TrainTools-MZ #5: no file had the same pixels."""
    from core_personalization.nodes.files import caption_files

    exif = Image.Exif()
    exif[0x0112] = 8
    (folder / "b.jpg").write_bytes(jpeg(photo(600, 400, seed=1), exif=exif))
    photo(600, 400, seed=2).save(folder / "a.webp")
    cut = photo(400, 400, seed=3)
    cut.putalpha(rectangle(400, 400, (50, 50, 300, 300)))
    cut.save(folder / "c.png")
    images = load(folder, shorter_side=200)[0]
    captions = ["a {} on a rug", "a {} by a lake", CAPTION]
    pictures = [image[0].movedim(-1, 0) for image in images]
    caption_files.save(caption_files.places("input", folder.name, pictures, overwrite=False), pictures, captions)
    assert [(folder / f"{name}.txt").read_text() for name in "abc"] == captions
    assert load(folder)[2] == captions


def test_captions_find_photos_that_another_program_decoded(folder):
    """74% of a JPEG's values differ between decoders."""
    from core_personalization.nodes.files import caption_files

    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg(photo(300, 300, seed=number)))
    noise = torch.randint(-2, 3, (3, 300, 300), generator=torch.Generator().manual_seed(0)) / 255
    pictures = [(image[0].movedim(-1, 0) + noise).clamp(0, 1) for image in load(folder)[0]][::-1]
    found = caption_files.places("input", folder.name, pictures, overwrite=False)
    assert [place.picture.name for place in found] == ["2.jpg", "1.jpg", "0.jpg"]


def test_a_photo_trained_through_this_node_has_the_latents_that_cores_loader_gives(folder, sd1):
    from core_personalization.core_ops.pictures import prepare_pictures

    from nodes import LoadImage

    photo(150, 130).save(folder / "upright.png")
    ours = load(folder)[:2]
    core, _ = LoadImage().load_image(f"{folder.name}/upright.png")
    latents = []
    for images, masks in (((core,), None), ours):
        prepared = prepare_pictures(images, masks, side=64)
        with torch.inference_mode():
            latents.append(sd1[2].encode(prepared.pixels[0].movedim(0, -1).unsqueeze(0)))
        assert prepared.masks is None
    assert torch.equal(*latents)
