"""Checkpoints of every kind: trained right, or refused by name before any work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families.build import FAMILIES, checkpoint
from families.embedding import embedding_run, execute
from families.load import load_checkpoint, load_family


@pytest.fixture(scope="module")
def sd1(comfyui):
    return load_family("sd1")


def sampled_as(models, kind: str, zsnr: bool = False):
    """With core's ModelSamplingDiscrete."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    return (ModelSamplingDiscrete().patch(models[0], kind, zsnr=zsnr)[0], *models[1:])


def test_an_unclip_checkpoint_is_refused_by_name(comfyui):
    family = replace(FAMILIES["sd2"], pooled_width=2048)
    models = load_checkpoint(family, checkpoint(family))
    with pytest.raises(ValueError, match=r"^model: this is a model that reads pictures too \(unCLIP\)"):
        execute(models)


def test_the_refiner_is_refused_by_name(comfyui, monkeypatch):
    import comfy.model_base

    models = load_family("sdxl")
    monkeypatch.setattr(models[0].model, "__class__", comfy.model_base.SDXLRefiner)
    with pytest.raises(ValueError, match=r"^model: this is the SDXL refiner, .* load an SDXL base checkpoint"):
        execute(models)


@pytest.mark.parametrize("channels", [9, 8])
def test_inpainting_and_editing_models_are_refused_by_name(sd1, monkeypatch, channels):
    monkeypatch.setattr(sd1[0].model.diffusion_model, "in_channels", channels)
    with pytest.raises(ValueError, match=rf"^model: .* takes {channels} latent channels, as inpainting and editing"):
        execute(sd1)


def test_a_distilled_models_own_sampling_is_refused_by_name(sd1):
    with pytest.raises(ValueError, match=r"^model: it samples as .*LCM"):
        execute(sampled_as(sd1, "lcm"))


@pytest.mark.parametrize("zsnr", [False, True])
def test_v_prediction_set_by_a_node_is_trained_also_with_zero_terminal_snr(sd1, zsnr):
    run = embedding_run(sampled_as(sd1, "v_prediction", zsnr), steps=2, rescale_to=0)
    assert run.denoiser.schedule.prediction == "v"
    with torch.inference_mode():
        run.train()
    assert all(vector.isfinite().all() for vector in run.embedding.snapshot().values())


def test_a_model_far_off_before_the_first_step_is_said(sd1):
    """As a v-prediction model is that is taken for another."""
    run = embedding_run(sd1, steps=1, rescale_to=0)
    with torch.inference_mode():
        run.train()
    run.losses["steady_loss"][0] = 0.9
    assert "the model is far off before it learns" in "\n".join(run.session._first_loss_note())
    run.losses["steady_loss"][0] = 0.2
    assert not run.session._first_loss_note()
