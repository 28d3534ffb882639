"""`fit` = keep on the small families: pictures of several sizes, each told to the model as it is."""

from __future__ import annotations

import pytest
import torch
from families.embedding import embedding_run, execute
from families.finetuning import finetune_run
from families.load import load_family

KEPT = {"resolution": 128, "fit": "keep", "batch_size": 3, "steps": 2, "rescale_from": 0.5, "rescale_to": 0.5}


def mixed(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(7)
    with torch.inference_mode():
        return [torch.rand(1, *size, 3, generator=random) for size in sizes or [(90, 300), (200, 200), (300, 90)]]


@pytest.mark.parametrize("method", ["CoRe", "AttnDreamBooth stage 1", "Textual Inversion"])
def test_every_method_trains_pictures_of_several_sizes(sd1, method):
    run = embedding_run(sd1, mixed(), method=method, **KEPT)
    sizes = [tuple(latent.shape[-2:]) for latent in run.loop.recipe.problem.latents.latents]
    assert sizes == [(8, 24), (16, 16), (24, 8)]
    before = run.embedding.snapshot()
    with torch.inference_mode():
        run.train()
    after = run.embedding.snapshot()
    assert all(not torch.equal(before[name], after[name]) and after[name].isfinite().all() for name in before)


def test_square_pictures_train_the_same_as_cropped_ones_bit_for_bit(sd1):
    squares = mixed((200, 200), (128, 128))
    kept, cropped = (
        execute(sd1, squares, concept_name=f"square-{fit}", **{**KEPT, "fit": fit})[0] for fit in ("keep", "crop")
    )
    assert all(torch.equal(kept.vectors[name], cropped.vectors[name]) for name in kept.vectors)


def test_a_finetune_and_its_masks_follow(sd1):
    images = mixed()
    masks = [torch.ones(image.shape[:3]).tril() for image in images]
    run = finetune_run(sd1, images=images, masks=masks, fit="keep", resolution=128, batch_size=3, steps=1)
    latents = run.loop.recipe.problem.latents
    assert [mask.shape[-2:] for mask in latents.masks] == [latent.shape[-2:] for latent in latents.latents]
    with torch.inference_mode():
        run.train()


def test_sdxl_is_told_the_size_of_each(comfyui):
    """As its own sampler tells it, for an Empty Latent Image of that size."""
    models = load_family("sdxl")
    model = models[0]
    run = embedding_run(models, mixed(), **KEPT)
    told = []
    unet, forward = run.denoiser.unet, run.denoiser.unet.forward

    def watched(x, *args, y=None, **kwargs):
        told.append((tuple(x.shape[-2:]), y[0].float().clone()))
        return forward(x, *args, y=y, **kwargs)

    unet.forward = watched
    with torch.inference_mode():
        run.train()
    assert {cells for cells, _ in told} == {(8, 24), (16, 16), (24, 8)}
    nothing = torch.zeros(1, 0)
    for (height, width), y in told:
        size = model.model.encode_adm(pooled_output=nothing, height=8 * height, width=8 * width, device="cpu")[0]
        torch.testing.assert_close(y[-len(size) :], size.float())


def test_augmented_copies_keep_their_pictures_size(sd1):
    run = embedding_run(sd1, mixed(), augmentation=2, **KEPT)
    sizes = [tuple(latent.shape[-2:]) for latent in run.loop.recipe.problem.latents.latents]
    assert sizes == [(8, 24)] * 2 + [(16, 16)] * 2 + [(24, 8)] * 2


def test_class_images_of_other_sizes_go_along(sd1):
    run = finetune_run(
        sd1, images=mixed(), class_images=mixed((90, 300), *[(200, 200)] * 2), fit="keep", resolution=128, steps=1
    )
    with torch.inference_mode():
        run.train()
    class_latents = run.loop.recipe.problem.class_latents.latents
    assert [tuple(latent.shape[-2:]) for latent in class_latents] == [(8, 24), (16, 16), (16, 16)]
