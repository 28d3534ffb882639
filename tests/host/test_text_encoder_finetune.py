"""U-Net Identity Finetune with the text encoder trained along, in all four families."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families.build import FAMILIES
from families.concepts import make_concept, sample
from families.finetuning import SETTINGS, execute, finetune_run, pictures
from families.hashing import weights_hash
from families.load import load_family
from safetensors import safe_open

SMALL = {"scope": "keys and values of cross-attention", "train_text_encoder": True, "text_encoder_rate": 1e-2}
PATH = "transformer.text_model.encoder.layers"
PROMPT = "a dog in the snow"


@pytest.mark.parametrize(("family", "form"), [("sd1", "DoRA"), ("sdxl", "LoRA")])
def test_core_draws_with_the_file_what_the_run_draws(family, form, embeddings, caplog):
    """test_timestep_lora.py has the other families."""
    from nodes import LoraLoader

    models = load_family(family, embedding_directory=str(embeddings))
    before = weights_hash(models)
    concept = make_concept(models, f"word-{family}")
    outputs = execute(models, concept, **SMALL, form=form, name=f"text-{family}", learning_rate=1e-3)
    model, lora, losses, path, clip = *outputs[:3], Path(outputs[5]), outputs[8]
    assert weights_hash(models) == before and len(losses["diffusion"]) == 2
    caplog.clear()
    with torch.inference_mode():
        loaded = LoraLoader().load_lora(*models[:2], path.name, 1.0, 1.0)
    assert not [record for record in caplog.records if "not loaded" in record.message.lower()]
    drawn = sample(model, clip, PROMPT)
    assert torch.equal(sample(loaded[0], loaded[1], PROMPT), drawn)
    assert not torch.allclose(sample(model, models[1], PROMPT), drawn, atol=1e-3)
    prefixes = {key.partition("text_model")[0] for key in lora if key.startswith("lora_te")}
    assert prefixes == ({"lora_te1_", "lora_te2_"} if family == "sdxl" else {"lora_te_"})
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(lora)
        assert json.loads(file.metadata()["core_personalization.settings"])["train_text_encoder"] is True
    if family == "sdxl":
        return
    again = execute(models, concept, **SMALL, form=form, name=f"text-{family}", learning_rate=1e-3, overwrite=False)
    assert torch.equal(sample(again[0], again[8], PROMPT), drawn), (
        "a finished training is loaded, with its text encoder"
    )


@pytest.mark.parametrize("family", list(FAMILIES))
def test_gradients_reach_every_layer_that_the_text_goes_through(family):
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.models.trainable_unet import WeightChoice
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    _, clip, _ = load_family(family)
    with torch.inference_mode(False):
        encoder = HostTextEncoder(clip, trained=WeightChoice("", "LoRA", rank=2, alpha=2.0, seed=0))
        text = encoder.encode([PromptRows(clip, "dog", 1).text("a dog in the snow")], {})
        read = [text.context] if text.pooled is None else [text.context, text.pooled]
        sum(output.square().mean() for output in read).backward()
    trained = encoder.trainable.parameters
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained.values())
    layers = {name: each.num_layers for name, each in encoder._encoders.items()}
    last = {name for name, count in layers.items() if any(f"{name}.{PATH}.{count - 1}." in key for key in trained)}
    assert last == {"sd1": {"clip_l"}, "sdxl": {"clip_g"}}.get(family, set())
    assert not any(value.requires_grad for value in encoder.module.parameters())


def test_full_weights_leave_the_text_encoder_in_a_lora_file(sd1):
    from nodes import LoraLoader

    model, lora, *_, path, _, _, clip, _, _ = execute(sd1, **SMALL, name="both")
    assert Path(path).parent.name == "diffusion_models"
    assert type(lora).__name__ == "ExecutionBlocker", "what the U-Net learned is in no LoRA"
    with torch.inference_mode():
        _, loaded = LoraLoader().load_lora(*sd1[:2], Path(path).name, 0.0, 1.0)
    assert torch.equal(sample(model, loaded, PROMPT), sample(model, clip, PROMPT))
    model, lora, *_, clip, _, _ = execute(sd1, **SMALL, name="both", save="LoRA")
    with torch.inference_mode():
        loaded = LoraLoader().load_lora(*sd1[:2], "both.safetensors", 1.0, 1.0)
    assert torch.equal(sample(loaded[0], loaded[1], PROMPT), sample(model, clip, PROMPT))
    assert {key.partition("_")[2].partition("_")[0] for key in lora} == {"unet", "te"}


def test_class_images_and_the_steady_loss_are_read_with_the_text_encoder_as_it_is(sd1):
    run = finetune_run(sd1, class_images=pictures(2, seed=8), **SMALL, form="LoRA", learning_rate=1e-9)
    before = run.loop.recipe.text_of(run.loop.recipe.problem.draw(1, run.loop.random)).context.detach().clone()
    first, _ = run.loop
    after = run.loop.recipe.text_of(run.loop.recipe.problem.draw(1, run.loop.random)).context
    assert not torch.allclose(before, after, atol=1e-3)
    assert first.gradient_shares.keys() == {"diffusion", "prior_preservation"}
    assert all(share > 0 for share in first.gradient_shares.values())


def test_the_memory_plan_counts_it(sd1):
    from core_personalization.nodes.finetune.finetuning import planned
    from core_personalization.nodes.host.models.host_models import HostModels
    from families.finetuning import checked_finetune

    with torch.inference_mode():
        frozen, trained = (
            planned(HostModels(*sd1), checked_finetune(sd1, **{**SMALL, "train_text_encoder": on}, form="LoRA"))
            for on in (False, True)
        )
    numbers = 3 * SETTINGS["rank"] * ((768 + 768) * 4 + (768 + 256) * 2)  # in three layers
    assert trained.optimizer > frozen.optimizer + numbers
    assert trained.total > frozen.total + 4 * numbers
