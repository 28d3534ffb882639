"""What trains, however ComfyUI was started: test_all_set_ups.py runs this folder once more for each way."""

from __future__ import annotations

from typing import Any

import pytest
import safetensors.torch
import torch
from families import dynamic_vram, finetuning
from families.concepts import make_lora, sample
from families.load import load_file
from robustness.smallest import SMALLEST, Models, load_smallest
from robustness.subjects import finetune, optimize, train_embedding

PROMPT = "a dog in the snow"


@pytest.fixture(scope="module")
def with_lora(models) -> Models:
    """The same models, their U-Net with a LoRA that changes what it draws."""
    import comfy.sd

    with torch.inference_mode():
        lora = {name: weight * 4 for name, weight in make_lora(models[0]).items()}
        patched, _ = comfy.sd.load_lora_for_models(models[0], None, lora, 1.0, 0.0)
    return (patched, *models[1:])


@pytest.fixture(autouse=True)
def no_picture_at_the_end(no_last_preview) -> None: ...


def drawn(models: Models) -> torch.Tensor:
    return sample(models[0], models[1], PROMPT)


def differ(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).norm() / second.norm())


def test_an_embedding_trains(models):
    result = train_embedding(models, "here", method="AttnDreamBooth stage 1", gradient_checkpointing=True)
    assert result["losses"].isfinite().all()


def from_file(models: Models, form: str, path: str) -> Any:
    """The MODEL of a training's file: OFT by Load Concept's function, for ComfyUI's own does nothing with parts."""
    if form != "OFT":
        return finetuning.from_core("unet" if form == "full weights" else "lora", models, path)
    from core_personalization.nodes.host.models.lora_loading import apply_lora

    with torch.inference_mode():
        return apply_lora(models[0], models[1], safetensors.torch.load_file(path), 1.0)[0]


@pytest.mark.parametrize("form", ["full weights", "LoRA", "DoRA", "LoHa", "LoKr", "OFT"])
def test_a_trained_unet_draws_as_its_file_and_leaves_the_base(models, form):
    before = drawn(models)
    model, _, _, _, _, path, *_ = finetuning.execute(
        models, name="drawn", form=form, scope="cross-attention layers", learning_rate=1e-2, preview_every=1
    )
    trained = drawn((model, *models[1:]))
    written = drawn((from_file(models, form, path), *models[1:]))
    assert differ(trained, before) > 0.05
    assert differ(trained, written) < 0.01
    assert torch.equal(drawn(models), before)


def test_an_embedding_sees_the_lora_of_its_model(models, with_lora):
    plain, patched = (train_embedding(each, "on", method="CoRe")["losses"] for each in (models, with_lora))
    assert differ(drawn(with_lora), drawn(models)) > 0.05
    assert differ(patched, plain) > 0.01


def test_a_whole_unet_is_written_with_the_lora_of_its_model(models, with_lora):
    """A rate at which nothing is learned: the file is the base with the LoRA."""
    model, _, _, _, _, path, *_ = finetuning.execute(
        with_lora, name="merged", form="full weights", scope="cross-attention layers", learning_rate=1e-9
    )
    patched, base = drawn(with_lora), drawn(models)
    for trained in (model, finetuning.from_core("unet", models, path)):
        assert differ(drawn((trained, *models[1:])), patched) < 0.1 * differ(base, patched)


def test_models_of_a_loader_that_cannot_load_again_train(embeddings):
    models = load_smallest(embeddings)
    assert models[0].cached_patcher_init is None and models[1].patcher.cached_patcher_init is None
    assert train_embedding(models, "once", method="CoRe")["losses"].isfinite().all()
    assert finetune(models, "once", form="full weights")["losses"].isfinite().all()


@pytest.fixture(scope="module")
def text_on_cpu(smallest_file, embeddings) -> Models:
    """As ComfyUI's loaders give it for device = cpu, and ComfyUI by itself on GTX 16xx and 10xx."""
    cpu = torch.device("cpu")
    return load_file(SMALLEST, smallest_file, str(embeddings), load_device=cpu, offload_device=cpu)


@pytest.mark.parametrize(
    "settings",
    [{"method": "CoRe", "preview_every": 2}, {"form": "LoRA", "train_embedding": True, "max_gradient_norm": 1.0}],
    ids=lambda settings: next(iter(settings.values())),
)
def test_a_text_encoder_on_the_cpu_trains(text_on_cpu, settings):
    run = finetune if "form" in settings else train_embedding
    assert run(text_on_cpu, "apart", **settings)["losses"].isfinite().all()


def test_a_text_encoder_on_the_cpu_is_optimized_for_a_prompt(text_on_cpu, models):
    apart, together = (optimize(each, "apart")["conditioning"].cpu() for each in (text_on_cpu, models))
    assert differ(apart, together) < 0.01


def test_pictures_and_masks_on_the_card_train(models):
    """As ComfyUI's nodes hand them over under --gpu-only."""
    images = [picture.cuda() for picture in finetuning.pictures(2)]
    given: dict[str, Any] = {"images": images, "masks": [torch.rand(1, 64, 64, device="cuda")] * 2}
    more = {"class_images": images, "augmentation": 4, "fit": "pad"}
    assert finetune(models, "there", form="LoRA", **given, **more)["losses"].isfinite().all()


@pytest.mark.skipif(not dynamic_vram.is_on(), reason="takes long; without dynamic VRAM it is in test_trainings.py")
def test_sdxl_trains(sdxl):
    more = {"gradient_checkpointing": True, "precision": "auto", "steps": 1}
    assert train_embedding(sdxl, "large", method="CoRe", **more)["losses"].isfinite().all()
