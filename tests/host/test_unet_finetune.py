"""The node "U-Net Identity Finetune" on real ComfyUI objects: small random-weight models of all four families."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families.build import FAMILIES
from families.finetuning import a_concept, execute, finetune_run, from_core, pictures, prediction, prediction_of_unet
from families.hashing import weights_hash
from families.load import load_family
from safetensors import safe_open


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("form", ["full weights", "LoRA"])
def test_model_and_file_say_the_same_and_the_base_stays(family, form, embeddings, caplog):
    models = load_family(family, embedding_directory=str(embeddings))
    before, base = weights_hash(models), prediction(models[0])
    model, _, losses, preview, _, path, *_ = execute(models, form=form, name=f"tuned-{family}")
    assert weights_hash(models) == before
    assert len(losses["diffusion"]) == 2 and preview.shape == (1, 64, 128, 3)
    tuned = prediction(model)
    assert (tuned - base).abs().max() > 1e-4
    caplog.clear()
    loaded = from_core("unet" if form == "full weights" else "lora", models, path)
    assert not [record for record in caplog.records if "not loaded" in record.message.lower()]
    torch.testing.assert_close(prediction(loaded), tuned, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_core_draws_with_the_file_of_dora_what_the_run_draws(family, embeddings, caplog):
    models = load_family(family, embedding_directory=str(embeddings))
    scope = "whole U-Net" if family == "sd1" else "cross-attention layers"
    settings = {"form": "DoRA", "learning_rate": 1e-2, "alpha": 2.0, "name": f"dora-{family}", "scope": scope}
    model, lora, _, _, _, path, *_ = execute(models, **settings)
    scales = [value for key, value in lora.items() if key.endswith(".dora_scale")]
    assert 4 * len(scales) == len(lora)
    assert all(len(value) == 1 for value in scales), "core takes lengths of columns as they are trained"
    assert (prediction(model) - prediction(models[0])).abs().max() > 1e-3
    caplog.clear()
    loaded = from_core("lora", models, path)
    assert not [record for record in caplog.records if "not loaded" in record.message.lower()]
    torch.testing.assert_close(prediction(loaded), prediction(model), rtol=1e-4, atol=1e-4)


def test_dora_is_trained_as_it_is_drawn(sd1):
    from core_personalization.nodes.finetune.finetune_results import collect, patched_model
    from core_personalization.nodes.host.models.host_models import HostModels

    run = finetune_run(sd1, form="DoRA", learning_rate=1e-2, alpha=2.0)
    list(run.loop)
    after = prediction(patched_model(sd1[0], collect(HostModels(*sd1), run.models)))
    with torch.no_grad():
        in_training = prediction_of_unet(sd1[0], run.denoiser.unet)
    torch.testing.assert_close(in_training, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "form"), [*((family, "LoRA") for family in FAMILIES), ("sd1", "DoRA")])
def test_dropout_trains_and_not_what_is_drawn_or_measured(family, form):
    models = load_family(family)
    given = {"form": form, "scope": "cross-attention layers", "learning_rate": 1e-2, "steps": 3, "batch_size": 1}
    runs = {p: finetune_run(models, **given, dropout=p) for p in (0.0, 0.5)}
    losses = {p: [report.terms["diffusion"] for report in run.loop] for p, run in runs.items()}
    assert losses[0.5][0] == losses[0.0][0], "while up or down is zero, nothing is there to be left out"
    assert losses[0.5][2] != losses[0.0][2]
    with torch.no_grad():
        once, again = (prediction_of_unet(models[0], runs[0.5].denoiser.unet) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, prediction_of_unet(models[0], runs[0.5].denoiser.unet))


@pytest.mark.parametrize("form", ["LoHa", "LoKr", "OFT", "singular values"])
def test_the_other_forms_say_the_same_in_model_and_file(sd1, form):
    given = {"form": form, "scope": "cross-attention layers", "learning_rate": 1e-2}
    model, _, _, _, _, path, *_ = execute(sd1, name="form", **given)
    loaded = from_core("unet" if form == "singular values" else "lora", sd1, path)
    assert (prediction(model) - prediction(sd1[0])).abs().max() > 1e-4
    torch.testing.assert_close(prediction(loaded), prediction(model), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("scope", "inside"),
    [
        ("whole U-Net", lambda name: True),
        ("attention layers", lambda name: ".attn1." in name or ".attn2." in name),
        ("cross-attention layers", lambda name: ".attn2." in name),
        ("keys and values of cross-attention", lambda name: ".attn2.to_k" in name or ".attn2.to_v" in name),
    ],
)
def test_gradients_reach_exactly_the_scope(sd1, scope, inside):
    run = finetune_run(sd1, scope=scope)
    expected = {name for name, _ in sd1[0].model.diffusion_model.named_parameters() if inside(name)}
    weights = run.denoiser.trainable.parameters
    assert set(weights) == expected
    next(iter(run.loop))
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in weights.values())
    others = [p for name, p in run.denoiser.unet.named_parameters() if name not in expected]
    assert all(parameter.grad is None for parameter in others)
    assert all(vector.grad is None for vector in run.embedding.parameters)


@pytest.mark.every_comfyui
def test_everything_connected(sd1):
    concept = a_concept(sd1, with_category=True, vectors=2)
    images, masks = [*pictures(1), torch.rand(1, 80, 70, 4)], [torch.rand(1, 64, 64), torch.rand(1, 80, 70)]
    captions, class_images = ["a {} on a table", "a {} in the grass"], pictures(3, seed=9)
    settings = {"name": "everything", "steps": 3, "augmentation": 2, "fit": "pad", "preview_every": 2}
    settings |= {"train_embedding": True, "embedding_rate": 1e-3, "alignment_mean": 2.0, "alignment_variance": 5.0}
    settings |= {"optimizer": "Adafactor", "gradient_accumulation": 2, "gradient_checkpointing": True}
    settings |= {"max_gradient_norm": 1.0, "save": "whole U-Net and LoRA"}
    _, lora, losses, _, _, path, refined, *_ = execute(sd1, concept, images, masks, captions, class_images, **settings)
    assert set(losses) >= {"diffusion", "attention_alignment", "prior_preservation", "embedding_norm"}
    assert refined.name == "everything" and refined.path.is_file()
    assert not torch.equal(refined.vectors["clip_l"], concept.vectors["clip_l"])
    assert Path(path).parent.name == "diffusion_models" and (Path(path).parents[1] / "loras").is_dir()
    assert any(key.endswith(".lora_up.weight") for key in lora)
    with safe_open(path, "pt") as file:
        card = file.metadata()
    assert card["modelspec.trigger_phrase"] == "embedding:learned teddy bear"
    assert json.loads(card["core_personalization.settings"])["optimizer"] == "Adafactor"


def test_a_lora_of_weights_that_have_not_changed_is_refused_with_a_remedy(sd1):
    with pytest.raises(ValueError, match="steps: no weight has changed yet"):
        execute(sd1, name="unmoved", form="full weights", save="LoRA", steps=1, schedule="cosine", warmup=0.9)
