"""Models that core's nodes patched are trained on as they draw."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families.embedding import embedding_run, execute
from families.finetuning import a_concept
from families.finetuning import execute as finetune
from families.refining import concept
from families.refining import execute as refine

SIZES = {"width": 64, "height": 64}


def deep_shrink(model):
    """Of the upper half of the noise levels."""
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

    return PatchModelAddDownscale.execute(model, 1, 2.0, 0.0, 0.5, True, "bicubic", "bicubic").args[0]


def self_attention_guidance(model):
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    return SelfAttentionGuidance.execute(model, 0.5, 2.0).args[0]


def free_u(model):
    from comfy_extras.nodes_freelunch import FreeU_V2

    return FreeU_V2.execute(model, 1.3, 1.4, 0.9, 0.2).args[0]


PATCHES = [deep_shrink, self_attention_guidance, free_u]


class OneEvaluation:
    """A sampler that evaluates its model once and returns that."""

    def __init__(self) -> None:
        self.max_denoise = lambda *_: False

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_):
        return model_wrap(noise, sigmas[:1], **extra_args)


def denoised_by_the_host(model, x, sigma, context):
    """x0 [1, 4, h, w], as core's samplers evaluate one conditioning at one noise level."""
    import comfy.samplers

    unguided = model.clone()
    unguided.model_options.pop("sampler_post_cfg_function", None)
    guider = comfy.samplers.CFGGuider(unguided)
    guider.set_conds([[context, {}]], [[context, {}]])
    guider.set_cfg(1.0)
    sampler: Any = OneEvaluation()
    with torch.inference_mode():
        sampled = guider.sample(x, torch.zeros_like(x), sampler, torch.tensor([sigma, 0.0]), seed=0)
        return model.model.process_latent_in(sampled).clone()


@pytest.mark.parametrize("patch", PATCHES)
def test_a_batch_of_several_noise_levels_is_computed_as_each_is_drawn(sd1, patch):
    model = patch(sd1[0])
    denoiser: Any = embedding_run((model, *sd1[1:]), resolution=64).denoiser
    generator = torch.Generator().manual_seed(0)
    z_t, context = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(1, 77, 768, generator=generator)
    from core_personalization.core_ops.conditioning import TextConditioning

    t = torch.tensor([950, 100, 700])
    with torch.no_grad():
        predicted = denoiser(z_t, t, TextConditioning({}, context))
        with_maps, maps = denoiser.with_attention(z_t, t, TextConditioning({}, context), lambda p: p.mean((1, 2)))
    torch.testing.assert_close(predicted, with_maps, rtol=1e-4, atol=1e-4)
    assert all(layer.shape == (3, 77) for layer in maps)
    sigmas = model.get_model_object("model_sampling").sigmas[t]
    for number, sigma in enumerate(sigmas):
        x = z_t[number : number + 1] * (1 + sigma**2).sqrt()
        noise = (x - denoised_by_the_host(model, x, float(sigma), context)) / sigma
        torch.testing.assert_close(predicted[number : number + 1], noise, rtol=2e-3, atol=2e-3)


def test_every_node_that_trains_takes_a_patched_model(sd1):
    models = [(patch(sd1[0]), *sd1[1:]) for patch in PATCHES]
    execute(models[0], steps=1, concept_name="patched", gradient_checkpointing=True)
    paired = a_concept(models[1], with_category=True)
    finetune(models[1], concept=paired, steps=1, form="LoRA", alignment_mean=0.1)
    refine(models[2], concept=concept(models[2], "patched"), steps=1, **SIZES)


def test_core_fast_takes_no_model_whose_keys_a_patch_may_change(sd1):
    model = sd1[0].clone()
    model.set_model_attn2_patch(lambda q, k, v, extra_options: (q, 2 * k, v))
    with pytest.raises(ValueError, match=r"method: it computes .* of test_patched_models; .* or choose"):
        execute((model, *sd1[1:]), steps=1, concept_name="patched", method="CoRe fast")
    other = sd1[0].clone()
    other.set_model_attn1_patch(lambda q, k, v, extra_options: (q, 2 * k, v))
    execute((other, *sd1[1:]), steps=1, concept_name="patched", method="CoRe fast")


def test_a_patch_that_looks_for_what_a_training_has_not_is_refused_by_name(sd1):
    model = sd1[0].clone()
    model.set_model_attn1_patch(lambda q, k, v, extra_options: extra_options["never there"])
    with pytest.raises(ValueError, match="model: a patch on it, of test_patched_models, looks for 'never there'"):
        execute((model, *sd1[1:]), steps=1, concept_name="patched")


def test_deep_shrink_is_at_work_in_the_noisy_half_alone(sd1):
    shrunk, plain = (embedding_run((model, *sd1[1:])).denoiser for model in (deep_shrink(sd1[0]), sd1[0]))
    from core_personalization.core_ops.conditioning import TextConditioning

    z_t, text = torch.randn(1, 4, 8, 8), TextConditioning({}, torch.randn(1, 77, 768))
    with torch.no_grad():
        early, late = ([each(z_t, torch.tensor([t]), text) for each in (shrunk, plain)] for t in (990, 10))
    assert not torch.allclose(*early, atol=1e-4)
    torch.testing.assert_close(*late)


class Adapter:
    """As core's Load Hypernetwork: a patch with weights, which ComfyUI moves where it loads the model."""

    def __init__(self) -> None:
        self.weight = torch.eye(768)

    def __call__(self, q, k, v, extra_options):
        return q, k @ self.weight, v @ self.weight

    def to(self, place):
        self.weight = self.weight.to(place)
        return self


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_patch_with_weights_is_moved_as_comfyui_moves_it(sd1, precision):
    model = sd1[0].clone()
    model.set_model_attn2_patch(Adapter())
    models = model, *sd1[1:]
    execute(models, steps=1, concept_name="moved", precision=precision)
    finetune(models, concept=concept(models, "moved"), steps=1, form="LoRA", precision=precision)
