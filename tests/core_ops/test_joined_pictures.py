"""Pictures of several concepts as one training set: each concept is drawn as often as another."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.diffusion_process import NoiseSchedule
from core_personalization.core_ops.pictures import Pictures
from core_personalization.core_ops.prompts.token_rows import TokenRow
from core_personalization.core_ops.training.training_data import CaptionedPictures, TrainingLatents, draw_batch, joined
from hypothesis import given
from hypothesis import strategies as st

SIZE = 8


def a_row(number: int) -> TokenRow:
    return TokenRow({"clip_l": (number,)}, (1.0,), range(0), 0)


def a_part(count: int, first_caption: int, repeats: list[int] | None = None, masked: bool = False) -> CaptionedPictures:
    """Pictures with a caption each, whose texts say which is which."""
    captions = [a_row(first_caption + place) for place in range(count)]
    pixels = [torch.full((3, SIZE, SIZE), float(first_caption + place)) for place in range(count)]
    masks = [torch.zeros(1, SIZE, SIZE) for _ in pixels] if masked else None
    texts = [f"picture {first_caption + place}" for place in range(count)]
    return CaptionedPictures(Pictures(pixels, masks), captions, [*range(count)], texts, repeats=repeats or [])


def latents_of(captioned: CaptionedPictures) -> TrainingLatents:
    pixels = [picture.clone() for picture in captioned.pictures.pixels]
    captions = torch.tensor(captioned.caption_of_picture)
    return TrainingLatents(pixels, captioned.captions, captions, repeats=captioned.repeats)


def test_one_alone_is_left_as_it_is():
    part = a_part(3, 0, [1, 2, 3])
    assert joined([part]) is part


def test_every_picture_keeps_its_caption_and_its_text():
    whole = joined([a_part(3, 10), a_part(2, 20), a_part(1, 30)])
    numbers = [int(pixels[0, 0, 0]) for pixels in whole.pictures.pixels]
    assert [whole.captions[place].tokens["clip_l"][0] for place in whole.caption_of_picture] == numbers
    assert [text.split()[-1] for text in whole.templates] == [str(number) for number in numbers]


def test_a_picture_without_a_mask_beside_others_with_one_counts_whole():
    whole = joined([a_part(2, 0), a_part(1, 5, masked=True)])
    assert whole.pictures.masks is not None
    assert [float(mask.mean()) for mask in whole.pictures.masks] == [1, 1, 0]
    assert joined([a_part(2, 0), a_part(1, 5)]).pictures.masks is None


def test_as_many_pictures_each_are_drawn_as_one_training_of_them_all():
    assert not joined([a_part(4, 0), a_part(4, 10)]).repeats


def test_an_empty_part_brings_its_captions_alone():
    trained, held_out = a_part(3, 0).parted(3)
    whole = joined([held_out, a_part(2, 10).parted(1)[1]])
    both = joined([trained, a_part(2, 10).parted(1)[0]])
    assert whole.captions == both.captions and whole.templates == ["picture 11"]
    assert both.captions[both.caption_of_picture[-1]].tokens["clip_l"] == (10,)


@given(st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=60), min_size=2, max_size=3))
def test_every_concept_is_drawn_as_often_within_half_a_percent(repeats):
    whole = joined([a_part(len(own), 1000 * place, own) for place, own in enumerate(repeats)])
    drawn = list(whole.repeats) or [1] * len(whole.templates)
    shares, start = [], 0
    for own in repeats:
        part = drawn[start : start + len(own)]
        start += len(own)
        shares.append(sum(part) / sum(drawn))
        assert [each * own[0] for each in part] == [each * part[0] for each in own]
    assert shares == pytest.approx([1 / len(repeats)] * len(repeats), rel=6e-3)
    assert sum(drawn) <= 101 * len(repeats) * max(map(sum, repeats))


def test_a_batch_shows_it():
    whole = joined([a_part(5, 0), a_part(3, 100)])
    assert whole.repeats == [3] * 5 + [5] * 3
    schedule = NoiseSchedule(torch.linspace(0.99, 0.01, 10), "epsilon")
    batch = draw_batch(latents_of(whole), schedule, 600, torch.Generator().manual_seed(0))
    of_second = sum(row.tokens["clip_l"][0] >= 100 for part in batch.parts for row in part.captions)
    assert of_second == 300
