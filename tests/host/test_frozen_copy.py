"""The copies that trainings work on: they take no second memory for weights, and never write into the host's."""

from __future__ import annotations

import pytest
import torch
from families.finetuning import execute
from families.hashing import weights_hash
from families.load import load_family
from torch import nn


@pytest.fixture(scope="module")
def models():
    return load_family("sd1")


def addresses(module: nn.Module) -> set[int]:
    return {parameter.data_ptr() for parameter in module.parameters()}


def test_a_frozen_unet_shares_memory_and_passes_gradients_on(models):
    from core_personalization.nodes.host.models.denoiser import HostDenoiser, UNetPlan
    from core_personalization.nodes.host.models.module_copy import autograd_mode

    with torch.inference_mode(), autograd_mode():
        unet = HostDenoiser(models[0], UNetPlan(torch.float32)).unet
        assert addresses(unet) == addresses(models[0].model.diffusion_model)
        assert not any(parameter.is_inference() for parameter in unet.parameters())
        context = torch.zeros(1, 77, 768, requires_grad=True)
        unet(torch.randn(1, 4, 8, 8), torch.tensor([9.0]), context=context).sum().backward()
    assert context.grad is not None and context.grad.abs().max() > 0


def test_where_the_host_writes_into_weights_they_are_copied(models):
    from core_personalization.nodes.host.models.module_copy import HostWeights, frozen_copy

    patcher = models[0].clone()
    patcher.weight_inplace_update = True
    with torch.inference_mode():
        copied = frozen_copy(HostWeights(patcher, "diffusion_model"), lambda _: torch.device("cpu"))
    assert not addresses(copied) & addresses(models[0].model.diffusion_model)


def test_a_text_encoder_is_cast_once_but_for_its_vocabulary(models):
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder

    with torch.inference_mode():
        encoder = HostTextEncoder(models[1])._encoders["clip_l"].transformer
    vocabulary = encoder.get_input_embeddings().weight
    assert vocabulary.data_ptr() in addresses(models[1].cond_stage_model)
    layer = encoder.text_model.encoder.layers[0]
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float32}


def test_training_weights_whole_does_not_write_into_the_hosts(models):
    before = weights_hash(models)
    scope = "keys and values of cross-attention"
    execute(models, form="full weights", scope=scope, learning_rate=1e-2, steps=1, name="shared")
    assert weights_hash(models) == before


class OfAnotherLoader:
    """As ComfyUI-GGUF's patcher: weights in a form of its own, and a function of its own to patch them."""

    def patch_weight_to_device(self, key, device_to=None, inplace_update=False):
        raise AssertionError(key)


def test_weights_that_another_loader_patches_are_refused_by_name(models):
    from core_personalization.nodes.host.models.module_copy import validate_copyable

    foreign = models[0].clone()
    foreign.patch_weight_to_device = OfAnotherLoader().patch_weight_to_device
    with pytest.raises(ValueError, match=r"model: its loader keeps weights in a form of its own \(GGUF"):
        execute((foreign, *models[1:]), steps=1, name="foreign")
    validate_copyable("model", models[0])


def test_a_clone_that_is_loaded_on_another_device_is_unloaded_too(models, monkeypatch):
    import comfy.model_management as host
    from core_personalization.nodes.host.models.module_copy import HostWeights

    class Loaded:
        def __init__(self, model, device):
            self.model, self.device = model, torch.device(device)

    elsewhere, plain, freed = Loaded(models[0].clone(), "meta"), Loaded(models[1].patcher, "cpu"), []
    monkeypatch.setattr(host, "current_loaded_models", [elsewhere, plain])
    monkeypatch.setattr(host, "free_memory", lambda size, device, keep_loaded: freed.append((device, keep_loaded)))
    HostWeights(models[0]).have_unloaded()
    assert freed == [(torch.device("meta"), [plain])]
