"""T-LoRA in U-Net Identity Finetune and in the nodes that load it, in all four families."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from families.build import FAMILIES
from families.concepts import load, make_concept, sample, save
from families.finetuning import execute, finetune_run, prediction_of_unet
from families.hashing import weights_hash
from families.load import load_family

T_LORA = {"form": "T-LoRA", "scope": "attention layers", "rank": 6, "least_rank": 1 / 3, "learning_rate": 1e-2}
PROMPT = "a dog in the snow"


def at(model, unet, t: float) -> torch.Tensor:
    """What a U-Net predicts at a timestep, inside the host's wrappers."""
    with torch.inference_mode():
        return prediction_of_unet(model, unet, t, {"wrappers": model.wrappers})


def apart(one: torch.Tensor, other: torch.Tensor) -> bool:
    return not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_file_draws_what_the_run_draws_and_core_without_its_schedule_does_not(family, embeddings, caplog):
    from core_personalization.nodes.sharing.load_timestep_lora import LoadTimestepLora

    loader: Any = importlib.import_module("nodes").LoraLoader()
    models = load_family(family, embedding_directory=str(embeddings))
    before, concept = weights_hash(models), make_concept(models, f"timestep-{family}")
    text = {"train_text_encoder": True, "text_encoder_rate": 1e-2}
    outputs = execute(models, concept, **T_LORA, **text, name=f"timestep-{family}")
    model, lora, losses, path, clip = *outputs[:3], outputs[5], outputs[8]
    assert weights_hash(models) == before and len(losses["diffusion"]) == 2
    drawn = sample(model, clip, PROMPT)
    assert apart(drawn, sample(model, models[1], PROMPT)) and apart(drawn, sample(models[0], clip, PROMPT))
    prefixes = {key.partition("text_model")[0] for key in lora if key.startswith("lora_te")}
    assert prefixes == ({"lora_te1_", "lora_te2_"} if family == "sdxl" else {"lora_te_"})
    name = Path(path).name
    with torch.inference_mode():
        loaded = LoadTimestepLora.execute(*models[:2], name, 1.0).args
        caplog.clear()
        by_core = loader.load_lora(*models[:2], name, 1.0, 1.0)
    assert not [record for record in caplog.records if "not loaded" in record.message.lower()]
    assert torch.equal(sample(loaded[0], loaded[1], PROMPT), drawn)
    assert not torch.allclose(sample(by_core[0], by_core[1], PROMPT), drawn, atol=1e-4)
    bundle = save(concept, lora)
    shared = load(models, f"loras/{bundle.name}")
    assert torch.equal(sample(shared[0], shared[1], PROMPT), drawn)
    assert not any(module._forward_hooks for module in models[0].model.modules())


@pytest.fixture(scope="module")
def trained(sd1):
    """A run after its steps, and the MODEL that it gives."""
    from core_personalization.nodes.finetune.finetune_results import collect, patched_model
    from core_personalization.nodes.host.models.host_models import HostModels

    run = finetune_run(sd1, **T_LORA, steps=3)
    list(run.loop)
    weights = collect(HostModels(*sd1), run.models)
    return run, patched_model(sd1[0], weights, run.checked.settings.rank_schedule)


@pytest.mark.parametrize("t", [0, 400, 999])
def test_it_is_trained_as_it_is_drawn(sd1, trained, t):
    run, model = trained
    unet = run.denoiser.unet
    with torch.no_grad(), run.denoiser.trainable.ranks.at(torch.tensor([t])):
        in_training = prediction_of_unet(sd1[0], unet, t)
    drawn = at(model, model.model.diffusion_model, t)
    torch.testing.assert_close(in_training, drawn, rtol=1e-4, atol=1e-4)
    assert apart(drawn, at(sd1[0], sd1[0].model.diffusion_model, t))


def test_a_batch_of_several_noise_levels_has_the_ranks_of_each(trained):
    _, model = trained
    unet, (wrapper,) = model.model.diffusion_model, model.wrappers["diffusion_model"].values()
    x, context, t = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 768), torch.tensor([950.0, 50.0])
    options = {"wrappers": {"diffusion_model": {"": wrapper}}}
    with torch.inference_mode():
        both = unet(x, t, context=context, transformer_options=options)
        each = [unet(x[i : i + 1], t[i : i + 1], context[i : i + 1], transformer_options=options) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(each), rtol=1e-4, atol=1e-4)


def test_a_training_on_such_a_model_counts_it(sd1, trained):
    from core_personalization.core_ops.conditioning import TextConditioning
    from core_personalization.nodes.host.models.denoiser import HostDenoiser, UNetPlan
    from core_personalization.nodes.host.models.host_models import HostModels

    _, model = trained
    parts = [HostModels(each, *sd1[1:]).digests()["model"] for each in (sd1[0], model, model.clone())]
    assert parts[0] != parts[1] == parts[2]
    z, t, context = torch.randn(2, 4, 8, 8), torch.tensor([950, 50]), torch.randn(2, 77, 768).requires_grad_()
    text = TextConditioning({}, context)
    gradients = []
    for levels in (None, 0):
        with torch.inference_mode():
            denoiser = HostDenoiser(model, UNetPlan(torch.float32, recomputed_levels=levels))
        output = denoiser(z, t, text)
        gradients.append(torch.autograd.grad(output.square().sum(), [context])[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    options = {"wrappers": model.wrappers}
    with torch.inference_mode():
        drawn = model.model.diffusion_model(z, t.float(), context=context, transformer_options=options)
    torch.testing.assert_close(output.detach(), drawn, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_is_refused(sd1, trained, embeddings):
    from core_personalization.nodes.host.models.timestep_lora import schedule_in
    from core_personalization.nodes.sharing.load_timestep_lora import LoadTimestepLora

    _, model = trained
    with pytest.raises(ValueError, match="form: DoRA cannot be trained on a model with a T-LoRA"):
        execute((model, *sd1[1:]), form="DoRA")
    *_, path, _, _, _, _, _ = execute(sd1, form="LoRA", name="plain", scope="keys and values of cross-attention")
    with pytest.raises(ValueError, match=r"file: 'plain\.safetensors' has no schedule of ranks"):
        LoadTimestepLora.validate_inputs(Path(path).name)
    good = {"most": 4, "least": 2, "power": 1.0}
    for wrong in ({"most": "4"}, {"least": 0}, {"most": 10**9}, {"power": None}, {"power": float("nan")}, {"x": 1}):
        with pytest.raises(ValueError, match="file: its schedule of ranks"):
            schedule_in({"timestep_rank": {**good, **wrong}})
    with pytest.raises(ValueError, match="file: its schedule of ranks"):
        schedule_in({"timestep_rank": 3})


def test_gradient_checkpointing_trains_the_same(sd1):
    settings = {**T_LORA, "scope": "cross-attention layers", "batch_size": 3}
    plain, again = (finetune_run(sd1, **settings, gradient_checkpointing=on) for on in (False, True))
    for run in (plain, again):
        next(iter(run.loop))
    parameters = [run.denoiser.trainable.parameters for run in (plain, again)]
    assert parameters[0].keys() == parameters[1].keys()
    for name, parameter in parameters[0].items():
        torch.testing.assert_close(parameter, parameters[1][name])
