from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.pictures import augment, latent_masks, prepare_pictures


def test_any_size_channel_count_and_batching_becomes_one_batch():
    images = [torch.rand(2, 40, 64, 3), torch.rand(1, 64, 30, 1), torch.rand(1, 20, 20, 2), torch.rand(1, 9, 90, 4)]
    pictures = prepare_pictures(images, None, 32)
    assert pictures.pixels.shape == (5, 3, 32, 32)
    assert pictures.masks is None


def test_crop_takes_the_centre():
    image = torch.zeros(1, 16, 48, 3)
    image[:, :, 16:32] = 1
    assert prepare_pictures([image], None, 16).pixels.min() == 1


def test_pad_keeps_everything_and_masks_out_the_border():
    image = torch.zeros(1, 16, 32, 3)
    pictures = prepare_pictures([image], None, 32, "pad")
    assert (pictures.pixels[0, :, 8:24] == 0).all()
    assert (pictures.pixels[0, :, :8] == 1).all()
    assert (pictures.masks[0, 0, 8:24] == 1).all()
    assert (pictures.masks[0, 0, :8] == 0).all()


def test_transparency_is_laid_on_white():
    clear = torch.zeros(1, 16, 16, 4)
    assert prepare_pictures([clear], None, 16).pixels.min() == 1


def test_latent_masks_average_each_cell():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8, :4] = 1
    assert latent_masks(mask).tolist() == [[[[0.5, 0.0], [0.0, 0.0]]]]


def test_augmentation_is_seeded_moves_masks_and_fills_the_frame():
    image = torch.rand(1, 32, 32, 1)
    pictures = prepare_pictures([image], [image[..., 0].clamp(min=0.01)], 32)
    first, second = (augment(pictures, 6, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first.pixels, second.pixels)
    assert first.pixels.shape == (6, 3, 32, 32)
    assert not torch.equal(first.pixels[0], first.pixels[1])
    torch.testing.assert_close(first.pixels[:, :1].clamp(min=0.01), first.masks, atol=0.02, rtol=0)
    white = prepare_pictures([torch.ones(1, 32, 32, 3)], None, 32)
    assert augment(white, 8, torch.Generator().manual_seed(0)).pixels.min() > 0.999


@pytest.mark.parametrize(
    ("images", "masks", "side", "message"),
    [
        ([], None, 32, "images: none came"),
        ([torch.rand(0, 8, 8, 3)], None, 32, "images: none came"),
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
