"""What a training leaves draws the same in core's loaders and samplers as in the run, from the same seed.

SD 1, SD 2, SD 2 v and SDXL as they are: tests/host/test_unet_finetune.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from families.build import FAMILIES, checkpoint
from families.embedding import embedding_run
from families.finetuned import relative
from families.finetuning import checked_finetune, execute
from families.load import load_checkpoint, text_encoder_options

SSD_1B = replace(FAMILIES["sdxl"], depths=(0, 2, 4), up_depths=(0, (1, 1, 2), (2, 1, 1)), middle_depth=-1)
MARKS = ("v_pred", "ztsnr")
PROMPT = "a dog in the snow"


@dataclass(frozen=True)
class Kind:
    """marks: of the file. sampling, zsnr: as core's ModelSamplingDiscrete sets them; "" for without."""

    family: Any
    marks: tuple[str, ...] = ()
    sampling: str = ""
    zsnr: bool = False

    def load(self) -> tuple[Any, Any, Any]:
        model, *rest = loaded_once(self.family, self.marks)
        return self.sampled(model), *rest

    def sampled(self, model: Any) -> Any:
        from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

        return ModelSamplingDiscrete().patch(model, self.sampling, zsnr=self.zsnr)[0] if self.sampling else model


@cache
def loaded_once(family: Any, marks: tuple[str, ...]) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE; whatever a run does, it leaves these as they are."""
    return load_checkpoint(family, checkpoint(family) | {mark: torch.zeros(0) for mark in marks})


@pytest.fixture(scope="module", autouse=True)
def forgotten_afterwards() -> Iterator[None]:
    yield
    loaded_once.cache_clear()


SAID_BY_THE_FILE = {"SDXL, zero SNR by its marks": Kind(FAMILIES["sdxl"], MARKS), "SSD-1B": Kind(SSD_1B)}
NOT_SAID = {
    "SD 1, v by a node": Kind(FAMILIES["sd1"], sampling="v_prediction"),
    "SDXL, ε and zero SNR by a node": Kind(FAMILIES["sdxl"], sampling="eps", zsnr=True),
}
KINDS = SAID_BY_THE_FILE | NOT_SAID
NODE = "ModelSamplingDiscrete set as here"


def drawn(model: Any, clip: Any) -> torch.Tensor:
    """By core's KSampler."""
    from nodes import common_ksampler

    positive, negative = (conditioning(clip, text) for text in (PROMPT, ""))
    with torch.inference_mode():
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        return common_ksampler(model, 3, 2, 3.0, "euler", "normal", positive, negative, latent)[0]["samples"].clone()


def conditioning(clip: Any, text: str) -> Any:
    with torch.inference_mode():
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def trained(models: Any, form: str, **settings: Any) -> tuple[Any, str]:
    """MODEL, and the name of its file."""
    given = {"scope": "cross-attention layers", "learning_rate": 1e-3, "steps": 1, "name": "drawn", **settings}
    model, _, _, _, _, path, *_ = execute(models, form=form, **given)
    return model, Path(path).name


def by_core(name: str) -> Any:
    from nodes import UNETLoader

    return UNETLoader().load_unet(name, "default")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_unet_draws_in_core_what_the_run_draws(comfyui, kind, caplog):
    models = KINDS[kind].load()
    model, name = trained(models, "full weights")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        loaded = by_core(name)
    # Core itself names the marks, by which it knows how to sample, of every such file.
    assert [line for line in caplog.messages if not line.startswith("unet unexpected: ['v_pred'")] == []
    own, clip = drawn(model, models[1]), models[1]
    assert relative(own, drawn(models[0], clip)) > 0.01
    if kind in NOT_SAID:
        assert relative(drawn(loaded, clip), own) > 0.01
        loaded = KINDS[kind].sampled(loaded)
    assert relative(drawn(loaded, clip), own) < 1e-4


def test_a_lora_of_ssd_1b_draws_in_core_what_the_run_draws(comfyui, caplog):
    from nodes import LoraLoader

    models = Kind(SSD_1B).load()
    model, name = trained(models, "LoRA")
    caplog.clear()
    with torch.inference_mode():
        loaded, _ = LoraLoader().load_lora(*models[:2], name, 1.0, 1.0)
    assert caplog.messages == []
    own = drawn(model, models[1])
    assert relative(own, drawn(models[0], models[1])) > 0.01
    assert relative(drawn(loaded, models[1]), own) < 1e-4


def test_a_word_is_learned_on_ssd_1b_by_the_attention_of_all_its_layers(comfyui):
    """It has no attention in the middle, and levels of several depths."""
    run = embedding_run(Kind(SSD_1B).load(), steps=1, rescale_to=0)
    assert len(run.denoiser._layers) == 2 * 2 + 2 * 4 + (1 + 1 + 2) + (2 + 1 + 1)
    before = run.embedding.snapshot()
    with torch.inference_mode():
        run.train()
    after = run.embedding.snapshot()
    assert all(not torch.equal(before[name], after[name]) and after[name].isfinite().all() for name in before)


def test_how_a_model_samples_that_no_file_says_is_known(comfyui):
    from core_personalization.nodes.host.models.unet_weights import file_forgets_sampling

    by_a_node = {
        Kind(FAMILIES["sd1"], sampling="eps"): False,
        Kind(FAMILIES["sd1"], sampling="v_prediction", zsnr=True): True,
        Kind(FAMILIES["sd2_v"], sampling="v_prediction"): False,
        Kind(FAMILIES["sd2_v"], sampling="v_prediction", zsnr=True): True,
        Kind(FAMILIES["sdxl"], sampling="v_prediction", zsnr=True): False,
    }
    kinds = by_a_node | dict.fromkeys(SAID_BY_THE_FILE.values(), False) | dict.fromkeys(NOT_SAID.values(), True)
    assert [file_forgets_sampling(kind.load()[0]) for kind in kinds] == list(kinds.values())


def test_a_whole_unet_whose_sampling_no_file_says_names_the_node_that_it_needs(comfyui):
    models = NOT_SAID["SD 1, v by a node"].load()
    assert NODE in "\n".join(checked_finetune(models, form="full weights").notes)
    assert NODE not in "\n".join(checked_finetune(models, form="LoRA").notes)


def test_in_eight_bits_the_file_holds_what_the_model_rounds_and_the_node_says_so(comfyui):
    from comfy.sd import load_state_dict_guess_config

    family = FAMILIES["sd1"]
    with torch.inference_mode():
        models = load_state_dict_guess_config(
            checkpoint(family),
            model_options={"dtype": torch.float8_e4m3fn},
            te_model_options=text_encoder_options(family),
        )[:3]
    model, name = trained(models, "full weights", learning_rate=2e-6)
    said = "loaded in eight bits, to which ComfyUI rounds what is learned"
    assert said in "\n".join(checked_finetune(models, form="full weights").notes)
    base, own, read = (drawn(each, models[1]) for each in (models[0], model, by_core(name)))
    assert relative(own, base) > 1e-3 and relative(read, base) > 1e-3
    assert relative(read, own) < 0.5 * relative(own, base)


@pytest.mark.parametrize("kind", ["SDXL, zero SNR by its marks", "SSD-1B", "SD 1, v by a node"])
def test_a_preview_is_what_cores_sampler_draws(comfyui, kind):
    """DDIM is Euler's method over the same noise levels, in core's scale of the latents."""
    import comfy.sample
    import comfy.samplers
    from core_personalization.core_ops.diffusion_process import DDIMConfig, ddim_sample
    from core_personalization.nodes.host.models.denoiser import UNetPlan
    from core_personalization.nodes.host.models.host_models import HostModels
    from core_personalization.nodes.host.models.module_copy import autograd_mode
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    model, clip, vae = KINDS[kind].load()
    rows, noise = PromptRows(clip, "dog"), torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    copied = HostModels(model, clip, vae).copied(UNetPlan(torch.float32))
    with autograd_mode(), torch.no_grad():
        text, negative = (copied.encoder.encode([rows.text(words)], {}) for words in (PROMPT, ""))
        own = ddim_sample(copied.denoiser, text, negative, noise, DDIMConfig(steps=3))
    sampling = model.get_model_object("model_sampling")
    levels = sampling.sigmas[torch.linspace(999, 0, 4).round().long()]
    positive, negative = (conditioning(clip, words) for words in (PROMPT, ""))
    with torch.inference_mode():
        sampled = comfy.sample.sample_custom(
            model,
            noise,
            3.0,
            comfy.samplers.sampler_object("euler"),
            levels,
            positive,
            negative,
            torch.zeros_like(noise),
        )
        expected = model.model.process_latent_in(sampled) / (1 + levels[-1] ** 2).sqrt()
    assert relative(own, expected) < 1e-3
