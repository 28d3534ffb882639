"""The small families load as what they stand for, and compute what diffusers and transformers compute."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from core_personalization.core_ops.conditioning import TextConditioning
from core_personalization.core_ops.losses.context_losses import token_means
from families import build
from families.load import load_family
from oracles import text, unet

EXPECTED = {
    "sd1": ("BaseModel", "SD15", "EPS", 768),
    "sd2": ("BaseModel", "SD20", "EPS", 1024),
    "sd2_v": ("BaseModel", "SD20", "V_PREDICTION", 1024),
    "sdxl": ("SDXL", "Segmind_Vega", "EPS", 2048),
}
PROMPT = "a photo of a cat wearing a hat on the beach"
# Of real checkpoints the host says the same: they hold neither key for CLIP-L.
NORMAL_LINE = "clip missing: ['clip_l.logit_scale', 'clip_l.transformer.text_projection.weight']"


@pytest.fixture(scope="module", params=list(build.FAMILIES))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(family):
    return load_family(family)


def relative_difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def test_the_host_recognises_the_family_and_uses_every_weight(family, caplog):
    with caplog.at_level(logging.DEBUG):
        model, clip, _ = load_family(family)
    base, config, prediction, width = EXPECTED[family]
    assert type(model.model).__name__ == base
    assert type(model.model.model_config).__name__ == config
    assert model.model.model_type.name == prediction
    with torch.inference_mode():
        assert clip.encode_from_tokens(clip.tokenize(PROMPT)).shape == (1, 77, width)
    words = ("missing", "unexpected", "left over", "leftover")
    complaints = [line for line in caplog.messages if any(word in line.lower() for word in words)]
    assert set(complaints) <= {NORMAL_LINE, "left over keys: dict_keys([])"}


def test_conditioning_equals_transformers(family, loaded):
    _, clip, _ = loaded
    with torch.inference_mode():
        actual, actual_pooled = clip.encode_from_tokens(clip.tokenize(PROMPT), return_pooled=True)
    ids = {encoder: [token for token, _ in rows[0]] for encoder, rows in clip.tokenize(PROMPT).items()}
    expected, expected_pooled = text.load_oracle(family).encode(ids)
    assert relative_difference(actual, expected) < 1e-4
    if family == "sdxl":
        assert relative_difference(actual_pooled, expected_pooled) < 1e-4


def test_a_word_changes_the_conditioning_from_its_place_on(loaded):
    _, clip, _ = loaded
    with torch.inference_mode():
        cat, dog = (clip.encode_from_tokens(clip.tokenize(f"a photo of a {word} here")) for word in ("cat", "dog"))
    difference = (cat - dog).abs().mean(dim=(0, 2)) / cat.std()
    assert torch.equal(cat[:, :5], dog[:, :5])
    assert (difference[5:8] > 0.05).all()


def test_unet_equals_diffusers(family, loaded):
    model, clip, _ = loaded
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(2, 4, 16, 8, generator=generator), torch.tensor([20, 800])
    with torch.inference_mode():
        prompts = [clip.encode_from_tokens(clip.tokenize(p), return_pooled=True) for p in (PROMPT, "")]
    context, pooled = (torch.cat(part).clone() for part in zip(*prompts, strict=True))
    extra, sizes = {}, None
    if family == "sdxl":
        sizes = unet.sizes_of(64, 128, len(pooled))
        y = [model.model.encode_adm(pooled_output=p[None], height=64, width=128, device="cpu") for p in pooled]
        extra = {"y": torch.cat(y)}
    with torch.inference_mode():
        actual = model.model.diffusion_model(x, t, context=context, **extra)
    oracle = unet.load_oracle(family)
    expected, maps = oracle(x, t, context, pooled if extra else None, sizes)
    # Tighter than 1e-4, which one percent of one query matrix would pass.
    assert relative_difference(actual, expected) < 1e-5
    assert all(torch.allclose(layer.sum(-1), torch.ones(())) for layer in maps)
    # Uniform attention would make the attention losses zero whatever the prompt.
    assert all(layer.amax(-1).mean() > 5 / 77 for layer in maps)


def test_recomputed_blocks_give_the_same_gradients(loaded):
    from core_personalization.nodes.host.models.denoiser import HostDenoiser, UNetPlan
    from core_personalization.nodes.host.models.module_copy import autograd_mode, autograd_tensor

    model, clip, _ = loaded
    with torch.inference_mode():
        context, pooled = clip.encode_from_tokens(clip.tokenize(PROMPT), return_pooled=True)
    z_t, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([300])
    gradients = []
    for recompute in (False, True):
        with autograd_mode():
            denoiser = HostDenoiser(model, UNetPlan(torch.float32))
            if recompute:
                denoiser.checkpoint_blocks()
            read = autograd_tensor(context).requires_grad_()
            conditioning = TextConditioning({}, read, autograd_tensor(pooled))
            prediction, layers = denoiser.with_attention(z_t, t, conditioning, token_means)
            (prediction.square().mean() + sum(layer.square().sum() for layer in layers)).backward()
        gradients.append(read.grad)
    assert relative_difference(gradients[1], gradients[0]) < 1e-5


def test_prompts_make_different_images(loaded):
    from comfy.sample import prepare_noise, sample

    model, clip, vae = loaded
    latent = torch.zeros(1, 4, 8, 8)
    with torch.inference_mode():
        texts = ("a cat", "on the beach", "")
        *prompts, nothing = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts)
        settings = {"steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "disable_pbar": True}
        settings |= {"negative": nothing, "latent_image": latent, "noise": prepare_noise(latent, 0)}
        images = [vae.decode(sample(model, positive=positive, **settings)) for positive in prompts]
    assert images[0].shape == (1, 64, 64, 3)
    assert all(image.isfinite().all() for image in images)
    assert min(image.std() for image in images) > 0.02
    assert (images[0] - images[1]).abs().mean() > 0.01


def test_autoencoder_reconstructs_block_means(loaded):
    model, _, vae = loaded
    colours = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(colours, scale_factor=8).movedim(1, -1)
    with torch.inference_mode():
        latent = vae.encode(image)
        assert 0.5 < model.model.process_latent_in(latent).std() < 1.5
        # The decoder's first layer squashes latents by tanh, hence not exact.
        assert (vae.decode(latent) - image).abs().mean() < 0.03


def test_cores_checkpoint_loader_reads_a_familys_file_as_it_is(tmp_path):
    from comfy.sd import load_checkpoint_guess_config

    destination = tmp_path / "sd1.safetensors"
    command = [sys.executable, "-m", "families.build", "sd1", destination, "--seed", "3"]
    subprocess.run(command, check=True, cwd=Path(build.__file__).parents[1])
    with torch.inference_mode():
        model, clip, _, _ = load_checkpoint_guess_config(str(destination))
        small_model, small_clip, _ = load_family("sd1", seed=3)
        full, small = (c.encode_from_tokens(c.tokenize(PROMPT)) for c in (clip, small_clip))
    assert relative_difference(full, small) < 1e-5
    weights, small_weights = model.model.state_dict(), small_model.model.state_dict()
    assert all(torch.equal(weights[key], small_weights[key]) for key in small_weights)
