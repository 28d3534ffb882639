"""The node "Selectively Informative Captions": where texts come from, how long they may be, saving, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families.captioning import ANSWER, CAPTION, OWN, execute, new_folder, pictures
from families.load import load_family
from families.vision_language import load_vision_language


@pytest.fixture(scope="module")
def reader():
    """A vision-language model that always answers `ANSWER`."""
    return load_vision_language(ANSWER)


@pytest.fixture(scope="module")
def random_reader():
    return load_vision_language()


@pytest.fixture(scope="module")
def clip():
    return load_family("sd1")[1]


def accepted_by_the_training_nodes(captions: list[str]) -> bool:
    from core_personalization.nodes.training.training_inputs import caption_templates

    return caption_templates(captions, len(captions), "a photo of a {}") == captions


# Sources


def test_the_answer_of_a_vision_language_model_is_repaired(reader):
    before = {name: value.clone() for name, value in reader.cond_stage_model.state_dict().items()}
    captions, report = execute(vision_clip=reader)
    assert captions == [CAPTION] * 3
    after = reader.cond_stage_model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert accepted_by_the_training_nodes(captions)
    assert "picture 2 (model)" in report and "removed about the subject: fluffy brown" in report


def test_typed_text_wins_over_captions_and_these_over_the_model(reader):
    captions, report = execute(
        vision_clip=reader,
        captions=["a dog by a lake", "a dog on a rug", ""],
        own_captions="a {} in the snow\n\n-\n-\n",
    )
    assert captions == ["a {} in the snow", "a photo of a {} on a rug", CAPTION]
    assert [f"picture {n + 1} ({source})" in report for n, source in enumerate(("typed", "captions", "model"))] == [
        True
    ] * 3


def test_a_text_with_a_line_per_image_is_a_list_of_captions():
    images = [torch.cat(pictures((64, 64), (64, 64)))]
    assert execute(images, captions=["a dog by a lake\na dog on a rug"])[0] == [
        "a photo of a {} by a lake",
        "a photo of a {} on a rug",
    ]


def test_case_1_needs_no_text_and_asks_nobody(random_reader):
    captions, report = execute(vision_clip=random_reader, case="Case 1: class only", own_captions="x")
    assert captions == ["a photo of a {}"] * 3
    assert "class only" in report


def test_nonsense_becomes_captions_that_training_takes(random_reader, clip):
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    images = pictures((64, 64), (40, 100), (64, 64))
    captions, _ = execute(images, random_reader, clip, temperature=1.0, max_tokens=64, vectors=4)
    assert accepted_by_the_training_nodes(captions)
    rows = PromptRows(clip, "dog", 4)
    for caption in captions:
        rows.concept(caption.replace("{}", "{} dog"))


# Length


@pytest.mark.parametrize("vectors", [1, 40])
def test_with_clip_its_own_tokenizer_measures_the_length(clip, vectors):
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    text = "a photo of a dog " + ", ".join(f"next to an extraordinarily ornamented chiffonier {n}" for n in range(20))
    (caption,), report = execute(pictures((64, 64)), clip=clip, own_captions=text, vectors=vectors)
    assert "shortened at a clause" in report and "Length bound by words" not in report
    PromptRows(clip, "dog", vectors).concept(caption.replace("{}", "{} dog"))
    longer = text.replace("a photo of a dog", "a photo of a {}")[: len(caption) + 60]
    assert longer.startswith(caption)
    with pytest.raises(ValueError, match="rows of 77"):
        PromptRows(clip, "dog", vectors).concept(longer.replace("{}", "{} dog"))


def test_without_clip_words_measure_the_length_and_it_is_said():
    (caption,), report = execute(pictures((64, 64)), own_captions="a photo of a dog " + "on a rug, " * 60)
    assert len(caption.split()) <= 50 and "Length bound by words" in report


# Saving


@pytest.fixture
def folder(comfyui) -> Path:
    return new_folder()


def test_what_is_saved_and_loaded_by_core_is_taken_as_it_is(folder):
    from comfy_extras.nodes_dataset import LoadImageTextDataSetFromFolderNode

    captions, report = execute(own_captions=OWN, save_to="input", save_folder=folder.name)
    assert str(folder) in report
    images, texts = LoadImageTextDataSetFromFolderNode.execute(folder.name).args
    assert sorted(texts) == sorted(captions)
    again, report = execute(images, captions=texts)
    assert again == texts and report.count("as it was") == 3


def test_where_to_save_is_settled_before_the_model_is_asked(folder, random_reader, monkeypatch):
    execute(own_captions=OWN, save_to="input", save_folder=folder.name)
    next(folder.glob("*.txt")).write_text("a {} that somebody wrote")
    monkeypatch.setattr(random_reader, "generate", lambda *_, **__: pytest.fail("asked"))
    for images in (pictures(), pictures(seed=1)):
        with pytest.raises(ValueError, match="save_folder"):
            execute(images, random_reader, save_to="input", save_folder=folder.name)


# Refusals


def test_a_start_that_leaves_no_room_is_refused_unasked(random_reader, monkeypatch):
    monkeypatch.setattr(random_reader, "generate", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ValueError, match=r"start: 'a \{\}, very .*… alone does not fit") as error:
        execute(pictures(), random_reader, start="a {}, " + "very " * 2000)
    assert len(str(error.value)) < 400


def test_what_cannot_be_captioned_is_refused(clip, reader):
    def refused(message: str, *args: Any, **settings: Any) -> None:
        with pytest.raises(ValueError, match=message):
            execute(*args, **settings)

    refused("images: got none", [torch.rand(0, 8, 8, 3)])
    refused("images: picture 0 has 4×4 pixels", [torch.rand(1, 4, 4, 3)])
    refused("picture 1 of 3 has no text")
    refused("picture 2 of 3 has no text", captions=["a dog", "", "a dog"])
    refused("own_captions: 2 lines for 3 pictures", own_captions="a {}\na {}")
    refused("captions: got 2 for 3 pictures", captions=["a {}", "a {}"])
    refused("SD1ClipModel generates no text", vision_clip=clip)
    refused("clip: .* is not the text encoder", clip=reader, own_captions=OWN)
    refused("super_category", own_captions=OWN, super_category="(dog:1.2)")
    refused("start: .* 0 times", own_captions=OWN, start="a photo")
    refused("start: .* alone does not fit", own_captions=OWN, clip=clip, vectors=64, start="a {}, " + "very " * 10)
    refused("case: 'Case 5' is not one of", case="Case 5")


def test_an_older_workflows_values_stay_in_their_places():
    """They are saved by position; concept_words came later."""
    from dataclasses import fields

    from core_personalization.nodes.captions.caption_settings import CaptionSettings

    names = [field.name for field in fields(CaptionSettings)]
    assert names[-3:] == ["own_captions", "own_instruction", "concept_words"]


def test_words_of_other_trainers_become_the_concept(comfyui):
    from core_personalization.nodes.captions.caption_settings import CaptionSettings
    from core_personalization.nodes.captions.captioning import given_texts

    settings = CaptionSettings(super_category="dog", own_captions="-\nTOK by a lake\n-", concept_words="sks dog, TOK")
    connected = ["photo of sks dog in the snow", "", ""]
    texts = [text for _, text in given_texts(settings, connected, 3)]
    assert texts == ["photo of {} in the snow", "{} by a lake", ""]
