"""What a training says before it copies anything that it will take, what it then takes, and what would take less."""

from __future__ import annotations

import re

import pytest
import torch
from families.embedding import embedding_run
from families.finetuning import finetune_run
from families.load import load_family

TOLERANCE = 0.15


@pytest.fixture(scope="module")
def models():
    return load_family("sd1")


def planned(line: str, part: str = "needs about") -> float:
    return float(re.findall(rf"{part} ([\d.]+) GiB", line)[0])


def with_free(monkeypatch, size: float) -> None:
    import comfy.model_management

    def free(*_, torch_free_too=False, **__):
        return (size, 0) if torch_free_too else size

    monkeypatch.setattr(comfy.model_management, "get_free_memory", free)


def test_what_cannot_fit_is_refused_before_anything_is_copied(models, monkeypatch):
    from core_personalization.nodes.host.models import module_copy

    made: list[str] = []
    read = module_copy.HostWeights.read

    def noted(self, name, device):
        made.append(device.type)
        return read(self, name, device)

    monkeypatch.setattr(module_copy.HostWeights, "read", noted)
    with_free(monkeypatch, 2**20)
    with pytest.raises(ValueError, match=r"memory: .*a step .*GiB.*No change of settings makes it fit"):
        embedding_run(models, resolution=64, batch_size=1)
    assert set(made) == {"meta"}


@pytest.mark.parametrize("node", ["embedding", "finetune"])
def test_the_refusal_names_settings_that_fit_with_their_numbers(models, monkeypatch, node):
    run = {"embedding": embedding_run, "finetune": finetune_run}[node]
    settings = {"resolution": 256, "batch_size": 6}
    whole = planned(run(models, **settings).memory)
    with_free(monkeypatch, (whole - 0.1) * 2**30)
    with pytest.raises(ValueError, match="What would fit, most effective first: ") as refused:
        run(models, **settings)
    remedies = re.findall(r"[:;] ([\w ]+): ([\d.]+) GiB", str(refused.value).partition("first")[2])
    numbers = [float(number) for _, number in remedies]
    assert numbers == sorted(numbers)
    assert numbers[-1] < whole
    words, least = remedies[0]
    assert "batch_size 1 and gradient_checkpointing on" in words
    monkeypatch.undo()
    changed = {"batch_size": 1, "gradient_checkpointing": True, **({"form": "LoRA"} if "LoRA" in words else {})}
    assert planned(run(models, **{**settings, **changed}).memory) == float(least)


def test_checkpointing_and_smaller_batches_plan_less_memory(models):
    def step(**settings) -> float:
        return planned(embedding_run(models, resolution=128, **settings).memory, "a step")

    whole = step(batch_size=2)
    assert step(batch_size=1) < whole
    assert step(batch_size=2, gradient_checkpointing=True) < whole


def test_finer_levels_alone_are_recomputed_when_asked(models):
    from core_personalization.nodes.host.models.denoiser import HostDenoiser, UNetPlan

    def recomputed(levels: int) -> int:
        with torch.inference_mode():
            denoiser = HostDenoiser(models[0], UNetPlan(torch.float32))
        denoiser.checkpoint_blocks(levels)
        return sum("forward" in module.__dict__ for module in denoiser.unet.modules())

    assert 0 < recomputed(1) < recomputed(2) == recomputed(0)


def test_what_a_t_lora_keeps_beside_the_layers_is_planned(models):
    """The ranks that it starts from, and, on the MODEL, its matrices."""
    from core_personalization.nodes.finetune.finetune_results import collect, patched_model
    from core_personalization.nodes.finetune.finetuning import planned as plan_of
    from core_personalization.nodes.host.models.host_models import HostModels

    host, run = HostModels(*models), finetune_run(models, form="T-LoRA", rank=16, scope="attention layers")
    lora = finetune_run(models, form="LoRA", rank=16, scope="attention layers")
    plans = [plan_of(host, each.checked) for each in (lora, run)]
    kept = sum(part.nbytes for each in run.denoiser.trainable.adapters.values() for part in each.buffers())
    assert plans[1].weights - plans[0].weights >= kept > 0
    weights = collect(host, run.models)
    on_it = HostModels(patched_model(models[0], weights, run.checked.settings.rank_schedule), *models[1:])
    matrices = sum(tensor.nbytes for name, tensor in weights.lora.items() if name.endswith(".weight"))
    assert plan_of(on_it, lora.checked).weights - plans[0].weights >= matrices


@pytest.mark.long
@pytest.mark.parametrize("method", ["CoRe", "Textual Inversion", "AttnDreamBooth stage 1"])
def test_train_embedding_takes_what_was_planned(models, method):
    run = embedding_run(models, method=method, resolution=256, batch_size=2, steps=2)
    run.train()
    assert planned(run.memory, "took") == pytest.approx(planned(run.memory), rel=TOLERANCE), run.memory


@pytest.mark.long
@pytest.mark.parametrize(("form", "fused"), [("full weights", False), ("full weights", True), ("LoRA", False)])
def test_finetuning_takes_what_was_planned(models, form, fused):
    run = finetune_run(models, form=form, fused_backward=fused, resolution=256, batch_size=2, steps=2)
    run.train()
    assert planned(run.memory, "took") == pytest.approx(planned(run.memory), rel=TOLERANCE), run.memory
