"""Folders of repeats, as kohya's trainers have them, from Concept Images to the training and its card."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import torch
from families.embedding import embedding_run, execute
from photo_files import photo


@pytest.fixture
def folder(comfyui) -> Path:
    """One portrait thrice, two others once, a caption, a mask, and a file that is no picture."""
    import folder_paths

    target = Path(folder_paths.get_input_directory()) / f"repeats-{uuid.uuid4().hex[:8]}"
    for number, name in enumerate(("1_others/a.png", "1_others/b.png", "3_portraits/a.png")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        photo(96, 96, seed=number).save(target / name)
    (target / "3_portraits" / "a.txt").write_text("sks in the snow")
    (target / "1_others" / "notes.pdf").write_bytes(b"%PDF")
    return target


def load(folder: Path | str) -> tuple:
    from core_personalization.nodes.photos.concept_images import ConceptImages

    with torch.inference_mode():
        return ConceptImages.execute(folder if isinstance(folder, str) else folder.name).args


def train(models, loaded: tuple, **settings):
    from core_personalization.nodes.embedding.train_embedding import TrainEmbedding
    from families.embedding import FEW_STEPS, SETTINGS

    images, masks, captions, *_, photos = loaded
    values = {name: [value] for name, value in {**SETTINGS, **FEW_STEPS, **settings}.items()}
    with torch.inference_mode():
        return TrainEmbedding.execute(
            [models[0]], [models[1]], [models[2]], images, masks, captions, [photos], None, **values
        ).args


def test_folders_with_a_number_before_their_name_say_how_often_their_pictures_are_drawn(folder):
    images, _, captions, report, _, photos = load(folder)
    assert len(images) == 3 and captions == ["", "", "{} in the snow"]
    assert photos.repeats == [1, 1, 3]
    assert report.startswith("3 pictures, 1 skipped: 1_others/notes.pdf (no picture)")


def test_the_folder_that_holds_them_can_be_chosen_and_is_looked_at_anew(folder):
    from core_personalization.nodes.files.picture_folders import folder_names, state_of

    assert {folder.name, f"{folder.name}/3_portraits"} <= set(folder_names())
    before = state_of(folder)
    photo(96, 96, seed=9).save(folder / "3_portraits" / "b.png")
    assert state_of(folder) != before


def test_one_such_folder_by_itself_changes_nothing_and_says_so(folder):
    _, _, _, report, _, photos = load(f"{folder.name}/3_portraits")
    assert photos.repeats_of(1) == []
    assert "all pictures have 3 repeats" in report


def test_a_link_that_leads_out_is_not_followed(folder, tmp_path):
    (tmp_path / "2_elsewhere").mkdir()
    photo(96, 96).save(tmp_path / "2_elsewhere" / "c.png")
    (folder / "2_elsewhere").symlink_to(tmp_path / "2_elsewhere")
    assert "2_elsewhere (a link that leads out of ComfyUI's input folder)" in load(folder)[3]


def test_a_training_draws_them_so_encodes_each_once_and_says_so_in_its_card(folder, sd1):
    from core_personalization.nodes.concept import PhotoFacts
    from core_personalization.nodes.files.file_metadata import read_card

    loaded = load(folder)
    run = embedding_run(sd1, list(loaded[0]), photos=loaded[-1])
    latents = run.loop.recipe.problem.latents
    assert len(latents.latents) == 3 and list(latents.repeats) == [1, 1, 3]
    concept = train(sd1, loaded, concept_name="repeated", steps=1)[0]
    told = read_card(concept.path)["pictures"]
    assert told == "3 pictures, 1 skipped: 1_others/notes.pdf (no picture); repeats 1, 1, 3"
    alike = (*loaded[:-1], PhotoFacts([5, 5, 5], "3 pictures"))
    with pytest.raises(ValueError, match="trained with other repeats"):
        train(sd1, alike, concept_name="repeated", steps=1, overwrite=False)


def test_what_belongs_to_other_pictures_is_refused(sd1):
    from core_personalization.nodes.concept import PhotoFacts

    with pytest.raises(ValueError, match=r"^photos: it is about 3 pictures, and images has 2"):
        embedding_run(sd1, [torch.rand(2, 64, 64, 3)], photos=PhotoFacts([1, 1, 3], ""))


def test_copies_of_a_picture_are_drawn_as_often_together(folder, sd1):
    loaded = load(folder)
    run = embedding_run(sd1, list(loaded[0]), photos=loaded[-1], augmentation=2)
    assert list(run.loop.recipe.problem.latents.repeats) == [1, 1, 1, 1, 3, 3]


def test_the_card_of_pictures_without_a_folder_says_how_many(sd1):
    from core_personalization.nodes.files.file_metadata import read_card

    assert read_card(execute(sd1, concept_name="counted", steps=1)[0].path)["pictures"] == "2 pictures"
