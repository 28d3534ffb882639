from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.pictures import (
    Pictures,
    augment,
    fitted_size,
    kept_sizes,
    latent_mask,
    prepare_pictures,
)
from hypothesis import given
from hypothesis import strategies as st

sides = st.integers(8, 4000)


def test_any_size_channel_count_and_batching_becomes_one_size():
    images = [torch.rand(2, 40, 64, 3), torch.rand(1, 64, 30, 1), torch.rand(1, 20, 20, 2), torch.rand(1, 9, 90, 4)]
    pictures = prepare_pictures(images, None, 32)
    assert [picture.shape for picture in pictures.pixels] == [(3, 32, 32)] * 5
    assert pictures.masks is None


def test_crop_takes_the_centre():
    image = torch.zeros(1, 16, 48, 3)
    image[:, :, 16:32] = 1
    assert prepare_pictures([image], None, 16).pixels[0].min() == 1


@given(height=sides, width=sides, side=st.sampled_from([64, 128, 512, 520, 768, 1024]))
def test_kept_proportions_have_about_the_same_area_and_are_the_nearest(height, width, side):
    kept = fitted_size((height, width), side, "keep")
    assert kept == (side, side) or all(each % 64 == 0 for each in kept)
    assert 0.7 * side**2 < kept[0] * kept[1] <= side**2
    ratio = height / width

    def off(size):
        return max(size[0] / size[1] / ratio, ratio * size[1] / size[0])

    assert off(kept) == pytest.approx(min(map(off, kept_sizes(side))))
    turned = fitted_size((width, height), side, "keep")
    assert off(turned[::-1]) == pytest.approx(off(kept))


def test_kept_sizes_are_those_that_trainers_of_sd_know():
    assert {(512, 512), (448, 576), (640, 384), (1024, 256)} <= set(kept_sizes(512))
    assert {(1024, 1024), (832, 1216), (1344, 768), (2048, 512)} <= set(kept_sizes(1024))


def test_square_pictures_are_kept_as_they_are_cropped_bit_for_bit():
    images, masks = [torch.rand(2, 300, 300, 3), torch.rand(1, 128, 128, 3)], [torch.rand(2, 300, 300)]
    masks.append(torch.rand(1, 128, 128))
    kept, cropped = (prepare_pictures(images, masks, 128, fit) for fit in ("keep", "crop"))
    assert all(map(torch.equal, kept.pixels, cropped.pixels)) and all(map(torch.equal, kept.masks, cropped.masks))


def test_keep_cuts_only_what_its_size_asks_for_and_masks_follow():
    """A ramp from side to side stays whole, up to half a column of the result."""
    ramp = torch.linspace(0, 1, 1000).expand(1, 500, 1000)
    pictures = prepare_pictures([ramp.unsqueeze(-1)], [ramp], 512, "keep")
    height, width = pictures.sizes[0]
    assert width / height == pytest.approx(2, rel=0.15) and pictures.masks[0].shape == (1, height, width)
    torch.testing.assert_close(pictures.pixels[0][0], pictures.masks[0][0])
    left = pictures.pixels[0].max() - pictures.pixels[0].min()
    assert left == pytest.approx(min(width / height / 2, 1), abs=0.01)


def test_pad_keeps_everything_and_masks_out_the_border():
    image = torch.zeros(1, 16, 32, 3)
    pictures = prepare_pictures([image], None, 32, "pad")
    assert (pictures.pixels[0][:, 8:24] == 0).all()
    assert (pictures.pixels[0][:, :8] == 1).all()
    assert (pictures.masks[0][0, 8:24] == 1).all()
    assert (pictures.masks[0][0, :8] == 0).all()


def test_transparency_is_laid_on_white():
    clear = torch.zeros(1, 16, 16, 4)
    assert prepare_pictures([clear], None, 16).pixels[0].min() == 1


def test_latent_masks_average_each_cell():
    mask = torch.zeros(1, 16, 16)
    mask[..., :8, :4] = 1
    assert latent_mask(mask).tolist() == [[[0.5, 0.0], [0.0, 0.0]]]


def test_augmentation_is_seeded_moves_masks_and_fills_the_frame():
    image = torch.rand(1, 32, 32, 1)
    pictures = prepare_pictures([image], [image[..., 0].clamp(min=0.01)], 32)
    first, second = (augment(pictures, 6, torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(map(torch.equal, first.pixels, second.pixels))
    assert [picture.shape for picture in first.pixels] == [(3, 32, 32)] * 6
    assert not torch.equal(first.pixels[0], first.pixels[1])
    for picture, mask in zip(first.pixels, first.masks, strict=True):
        torch.testing.assert_close(picture[:1].clamp(min=0.01), mask, atol=0.02, rtol=0)
    white = prepare_pictures([torch.ones(1, 32, 32, 3)], None, 32)
    assert all(picture.min() > 0.999 for picture in augment(white, 8, torch.Generator().manual_seed(0)).pixels)


def test_augmentation_turns_a_long_picture_without_shearing_it():
    """A disc stays one, whatever the frame: as wide as it is high. Far from it the picture is mirrored."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(192.0), indexing="ij")
    disc = ((y - 31.5) ** 2 + (x - 95.5) ** 2 < 8**2).float().expand(3, -1, -1)
    for turned in augment(Pictures([disc], None), 12, torch.Generator().manual_seed(3)).pixels:
        seen = turned[0, 8:56, 66:126] > 0.5
        rows, columns = seen.any(1).sum(), seen.any(0).sum()
        assert abs(int(rows) - int(columns)) <= 2


def test_a_mask_may_come_alone_or_with_a_channel():
    mask = torch.rand(30, 30)
    prepared = [
        prepare_pictures([torch.ones(1, 30, 30, 3)], [given], 32) for given in (mask, mask[None], mask[None, None])
    ]
    for pictures in prepared:
        assert torch.equal(pictures.masks[0], prepared[0].masks[0])


@pytest.mark.parametrize(
    ("images", "masks", "side", "message"),
    [
        ([], None, 32, "images: got none"),
        ([torch.rand(0, 8, 8, 3)], None, 32, "images: got none"),
        ([torch.rand(1, 7, 30, 3)], None, 32, r"picture 0 has 30×7 pixels"),
        ([torch.rand(1, 30, 30, 5)], None, 32, "5 channels"),
        ([torch.full((1, 30, 30, 3), float("nan"))], None, 32, "not finite"),
        ([torch.rand(1, 30, 30, 3)], None, 33, "resolution: 33"),
        ([torch.rand(2, 30, 30, 3)], [torch.rand(1, 30, 30)], 32, "masks: got 1 for 2"),
        ([torch.rand(1, 30, 30, 3)], [torch.rand(1, 30, 31)], 32, "resize the mask"),
        ([torch.rand(2, 30, 30, 3)], [torch.zeros(1, 64, 64)], 32, "masks: got 1 for 2"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_a_remedy(images, masks, side, message):
    with pytest.raises(ValueError, match=message):
        prepare_pictures(images, masks, side)


@pytest.mark.parametrize("fit", ["crop", "keep", "pad"])
def test_white_masks_are_as_none(fit):
    """Concept Images gives them for pictures without one; a mask among them stays."""
    images = [torch.rand(1, 90, 70, 3), torch.rand(1, 50, 40, 3)]
    white = [torch.ones(1, 1, 1).expand(1, 90, 70), torch.ones(1, 50, 40)]
    given, none = (prepare_pictures(images, masks, side=64, fit=fit) for masks in (white, None))
    assert all(map(torch.equal, given.pixels, none.pixels))
    assert given.masks is none.masks is None or all(map(torch.equal, given.masks, none.masks))
    masked = prepare_pictures(images, [white[0], white[1] * (torch.rand(50, 40) > 0.5)], side=64, fit=fit)
    assert masked.masks is not None and masked.masks[1].min() < 0.9
