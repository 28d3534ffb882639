"""What ComfyUI after 0.33.0 does, done here to the one at hand: attention that a layer prefers, settings among weights,
tensors in containers; and an attention override of another node."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import torch
from families.finetuned import CARD, finetuned, save_unet
from families.load import load_family
from safetensors.torch import load_file
from torch import Tensor, nn

pytestmark = pytest.mark.every_comfyui

SETTING = "middle_block.1.transformer_blocks.0.attn2.comfy_attention.config"


class LayerSetting(nn.Module):
    """Like ComfyAttention: a function, and a text in the state dict that is no weight."""

    def __init__(self, function: Any = None) -> None:
        super().__init__()
        self.function = function

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        text = json.dumps({"attention": "comfy_kitchen_int8"}).encode()
        destination[prefix + "config"] = torch.tensor(list(text), dtype=torch.uint8)


def with_setting(model: Any, function: Any = None) -> Any:
    attention = model.model.diffusion_model.get_submodule(SETTING.removesuffix(".comfy_attention.config"))
    attention.comfy_attention = LayerSetting(function)
    assert SETTING in model.model.diffusion_model.state_dict()
    return model


@pytest.fixture
def quantized(comfyui) -> Any:
    """A MODEL of its own whose middle block has a setting in its state dict."""
    return with_setting(load_family("sd1")[0])


def test_a_setting_in_the_state_dict_is_no_weight(quantized):
    from core_personalization.nodes.host.models.unet_layout import unet_parameters
    from core_personalization.nodes.host.models.unet_weights import kohya_names

    unet = quantized.model.diffusion_model
    settings = {name: value for name, value in unet.state_dict().items() if name not in unet_parameters(unet)}
    assert SETTING in settings and {value.dtype for value in settings.values()} == {torch.uint8}
    assert all(torch.equal(weight, unet.state_dict()[name]) for name, weight in unet_parameters(unet).items())
    assert kohya_names(quantized) == kohya_names(load_family("sd1")[0])


def test_the_fingerprint_is_that_of_the_weights(quantized):
    from core_personalization.nodes.host.models.host_models import base_model_fingerprint

    assert base_model_fingerprint(quantized) == base_model_fingerprint(load_family("sd1")[0])


def test_a_whole_unet_is_written_without_settings(comfyui):
    from core_personalization.nodes.host.models.unet_layout import unet_parameters

    family = finetuned("sd1")
    with_setting(family.model)
    saved = load_file(save_unet("with-setting", family.model, family.tuned, CARD, overwrite=True))
    assert saved.keys() == unet_parameters(family.model.model.diffusion_model).keys()
    with pytest.raises(ValueError, match="not of this U-Net"):
        save_unet("with-setting", family.model, family.tuned | {"another": torch.ones(1)}, CARD, overwrite=True)


def test_a_models_weights_are_read_without_settings(quantized):
    from core_personalization.nodes.host.models.unet_layout import unet_parameters
    from core_personalization.nodes.host.models.unet_weights import unet_weights

    assert unet_weights(quantized).keys() == unet_parameters(quantized.model.diffusion_model).keys()


def test_the_probe_has_each_layer_compute_what_it_prefers(comfyui, monkeypatch):
    """The host hands a layer's preference to its attention; so must what stands in for the layer."""
    import comfy.ldm.modules.attention
    from core_personalization.nodes.host.attention.attention_replacement import host_attention
    from core_personalization.nodes.host.models.unet_layout import preferred_attentions

    preference = object()
    model = with_setting(load_family("sd1")[0], preference)
    found = preferred_attentions(model.model.diffusion_model)
    assert list(found) == [("middle", 0, 0)] and found["middle", 0, 0].function is preference
    calls: list[Any] = []
    monkeypatch.setattr(comfy.ldm.modules.attention, "optimized_attention", lambda *_, **named: calls.append(named))
    extra = {"n_heads": 8, "attn_precision": None}
    q: Any = None
    host_attention(q, q, q, extra, found["middle", 0, 0])
    host_attention(q, q, q, extra)
    assert calls[0]["preferred_attention"] is found["middle", 0, 0]
    assert "preferred_attention" not in calls[1]


def anothers_override(function: Any, *args: Any, **named: Any) -> Tensor:
    return function(*args, **named)


def test_an_override_that_training_leaves_out_is_said(caplog):
    from core_personalization.nodes.host.attention.attention_replacement import OVERRIDE, for_training

    given = {OVERRIDE: anothers_override, "kept": 1}
    with caplog.at_level(logging.WARNING):
        options = for_training(given)
        assert "anothers_override is left out while training" in caplog.text
        caplog.clear()
        again, from_none = for_training(options), for_training({"kept": 1})
    assert not caplog.messages
    assert options == again == from_none and options["kept"] == 1
    assert given == {OVERRIDE: anothers_override, "kept": 1}


def test_training_attention_is_the_hosts_and_differentiable(comfyui):
    import comfy.ldm.modules.attention as host
    from core_personalization.nodes.host.attention.attention_replacement import for_training

    q, k, v = (torch.randn(1, n, 16, requires_grad=True) for n in (5, 3, 3))
    ours = host.optimized_attention(q, k, v, 2, transformer_options=for_training({}))
    theirs = host.optimized_attention(q.detach(), k.detach(), v.detach(), 2)
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(ours.sum(), (q, v)))


def test_tensors_in_containers_reach_it_as_tensors(comfyui):
    import comfy.ldm.modules.attention as host
    from core_personalization.nodes.host.attention.attention_replacement import for_training

    container = getattr(host, "AttentionTensorContainer", None)
    if container is None:
        pytest.skip("this ComfyUI hands over tensors")
    q, k, v = (torch.randn(1, n, 16) for n in (5, 3, 3))
    options = for_training({})
    held = host.optimized_attention(*map(container, (q, k, v)), 2, transformer_options=options)
    assert torch.equal(held, host.optimized_attention(q, k, v, 2, transformer_options=options))
