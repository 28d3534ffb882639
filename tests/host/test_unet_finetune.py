"""The node "U-Net Identity Finetune" on real ComfyUI objects: small random-weight models of all four families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families.build import FAMILIES
from families.hashing import weights_hash
from families.load import load_family
from safetensors import safe_open

SETTINGS: dict[str, Any] = {
    "name": "finetuned",
    "steps": 2,
    "batch_size": 2,
    "learning_rate": 1e-4,
    "resolution": 64,
    "rank": 4,
    "precision": "fp32",
    "preview_every": 0,
    "overwrite": True,
}


@pytest.fixture(scope="module")
def embeddings() -> Path:
    import folder_paths

    return Path(folder_paths.get_folder_paths("embeddings")[0])


@pytest.fixture(scope="module")
def sd1(embeddings):
    return load_family("sd1", embedding_directory=str(embeddings))


def pictures(count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return [torch.rand(1, 64, 64, 3, generator=generator) for _ in range(count)]


def a_concept(models, with_category: bool = False, vectors: int = 1):
    from core_personalization.nodes.concept import Concept
    from core_personalization.nodes.host.text_encoder import encoder_widths

    generator = torch.Generator().manual_seed(4)
    values = {
        name: 0.02 * torch.randn(vectors, width, generator=generator)
        for name, width in encoder_widths(models[1]).items()
    }
    return Concept("learned", "teddy bear", values, Path("learned.safetensors"), with_category)


def execute(models, concept=None, images=None, masks=None, captions=None, class_images=None, **settings):
    """The node as the host runs it: under inference mode, every input a list."""
    from core_personalization.nodes.unet_identity_finetune import UNetIdentityFinetune

    values = {name: [value] for name, value in {**SETTINGS, **settings}.items()}
    model, clip, vae = models
    with torch.inference_mode():
        return UNetIdentityFinetune.execute(
            [model],
            [clip],
            [vae],
            [concept or a_concept(models)],
            images or pictures(),
            masks,
            captions,
            class_images,
            **values,
        ).args


def prediction(model) -> torch.Tensor:
    """Of the host's own U-Net with the MODEL's patches applied."""
    import comfy.model_management

    family = model.model.model_config.unet_config
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(1, 4, 8, 8, generator=generator)
    context = torch.randn(1, 77, family["context_dim"], generator=generator)
    y = torch.randn(1, family["adm_in_channels"], generator=generator) if family.get("adm_in_channels") else None
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([model], force_patch_weights=True, force_full_load=True)
        unet = model.model.diffusion_model
        output = unet(z, torch.tensor([500.0]), context=context, y=y, transformer_options={})
        comfy.model_management.unload_all_models()
    return output.clone()


def from_core(kind: str, models, path: str):
    """The MODEL that core's own loader makes of the file."""
    import comfy.sd
    import comfy.utils

    with torch.inference_mode():
        if kind == "unet":
            return comfy.sd.load_diffusion_model(path)
        lora = comfy.utils.load_torch_file(path, safe_load=True)
        return comfy.sd.load_lora_for_models(models[0], None, lora, 1.0, 0.0)[0]


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("form", ["full weights", "LoRA"])
def test_model_and_file_say_the_same_and_the_base_stays(family, form, embeddings, caplog):
    models = load_family(family, embedding_directory=str(embeddings))
    before, base = weights_hash(models), prediction(models[0])
    model, _, losses, preview, path, _ = execute(models, form=form, name=f"tuned-{family}")
    assert weights_hash(models) == before
    assert len(losses["diffusion"]) == 2 and preview.shape == (1, 64, 256, 3)
    tuned = prediction(model)
    assert (tuned - base).abs().max() > 1e-4
    caplog.clear()
    loaded = from_core("unet" if form == "full weights" else "lora", models, path)
    assert not [record for record in caplog.records if "not loaded" in record.message.lower()]
    torch.testing.assert_close(prediction(loaded), tuned, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["LoHa", "LoKr", "OFT", "singular values"])
def test_the_other_forms_say_the_same_in_model_and_file(sd1, form):
    model, _, _, _, path, _ = execute(sd1, form=form, scope="cross-attention layers", name="form", learning_rate=1e-2)
    loaded = from_core("unet" if form == "singular values" else "lora", sd1, path)
    assert (prediction(model) - prediction(sd1[0])).abs().max() > 1e-4
    torch.testing.assert_close(prediction(loaded), prediction(model), rtol=1e-3, atol=1e-3)


def finetune_run(models, concept=None, images=None, masks=None, captions=None, class_images=None, **settings):
    from core_personalization.nodes.finetune_inputs import GivenPictures, check_finetune
    from core_personalization.nodes.finetune_run import FinetuneRun
    from core_personalization.nodes.finetune_settings import FinetuneSettings
    from core_personalization.nodes.settings import validated
    from core_personalization.nodes.training_inputs import HostModels

    host = HostModels(*models)
    given = GivenPictures(images or pictures(), masks, captions, class_images)
    chosen = validated(FinetuneSettings, {**SETTINGS, **settings})
    with torch.inference_mode():
        return FinetuneRun(host, check_finetune(host, concept or a_concept(models), given, chosen))


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


def test_everything_connected(sd1):
    concept = a_concept(sd1, with_category=True, vectors=2)
    _, lora, losses, _, path, refined = execute(
        sd1,
        concept,
        images=[*pictures(1), torch.rand(1, 80, 70, 4)],
        masks=[torch.rand(1, 64, 64), torch.rand(1, 80, 70)],
        captions=["a {} on a table", "a {} in the grass"],
        class_images=pictures(3, seed=9),
        name="everything",
        steps=3,
        train_embedding=True,
        embedding_rate=1e-3,
        alignment_mean=2.0,
        alignment_variance=5.0,
        augmentation=2,
        fit="pad",
        optimizer="Adafactor",
        gradient_accumulation=2,
        gradient_checkpointing=True,
        max_gradient_norm=1.0,
        save="whole U-Net and LoRA",
        preview_every=2,
    )
    assert set(losses) >= {"diffusion", "attention_alignment", "prior_preservation", "embedding_norm"}
    assert refined.name == "everything" and refined.path.is_file()
    assert not torch.equal(refined.vectors["clip_l"], concept.vectors["clip_l"])
    assert Path(path).parent.name == "diffusion_models" and (Path(path).parents[1] / "loras").is_dir()
    assert any(key.endswith(".lora_up.weight") for key in lora)
    with safe_open(path, "pt") as file:
        card = file.metadata()
    assert card["modelspec.trigger_phrase"] == "embedding:learned teddy bear"
    assert json.loads(card["core_personalization.settings"])["optimizer"] == "Adafactor"
