"""LoRAs of other kinds and places in Load Concept."""

from __future__ import annotations

import pytest
import torch
from families.concepts import load, make_concept, sample, save


@pytest.mark.parametrize("adapter", ["LoHa", "LoKr", "OFT", "DoRA"])
def test_other_adapters_are_taken_too(sd1, adapter):
    from comfy.weight_adapter import adapter_maps
    from core_personalization.core_ops.weights.weight_decomposition import WeightDecomposed

    from nodes import LoraLoader

    name = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
    path = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    weight = sd1[0].model.diffusion_model.state_dict()[path]
    make = WeightDecomposed if adapter == "DoRA" else adapter_maps[adapter].create_train
    trained = make(weight, rank=4, alpha=0.5)
    for parameter in filter(lambda parameter: parameter.requires_grad, trained.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    lora = {f"{name}.{key}": value.detach() for key, value in trained.state_dict().items()}
    path = save(make_concept(sd1, f"with-{adapter}"), lora)
    model, clip, *_ = load(sd1, f"loras/{path.name}")
    expected = LoraLoader().load_lora(sd1[0], sd1[1], path.name, 1.0, 1.0)[0]
    drawn, base = (sample(found, clip, "a dog") for found in (model, sd1[0]))
    assert torch.equal(drawn, sample(expected, clip, "a dog"))
    assert not torch.allclose(drawn, base, atol=1e-3)


def test_a_lora_of_the_text_encoder_changes_the_clip(sd1):
    name = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    random = torch.Generator().manual_seed(0)
    lora = {f"{name}.lora_up.weight": torch.randn(256, 2, generator=random),
            f"{name}.lora_down.weight": torch.randn(2, 768, generator=random)}  # fmt: skip
    path = save(make_concept(sd1, "text-encoder"), lora)
    model, clip, *_ = load(sd1, f"loras/{path.name}")
    assert not torch.allclose(sample(model, clip, "a dog"), sample(sd1[0], sd1[1], "a dog"), atol=1e-3)


LAYER = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"
KEY = f"diffusion_model.{LAYER}.weight"
ROTATIONS = {"OFT": (80, 4, 4), "BOFT": (2, 80, 4, 4)}
"""Shapes of a layer's blocks in files."""


def rotation(kind: str) -> dict[str, torch.Tensor]:
    blocks = 0.2 * torch.randn(ROTATIONS[kind], generator=torch.Generator().manual_seed(0))
    name = f"lora_unet_{LAYER.replace('.', '_')}"
    return {f"{name}.oft_blocks": blocks, f"{name}.alpha": torch.tensor(0.0)}


def change(model, weight: torch.Tensor) -> torch.Tensor:
    """Of a weight that ComfyUI patches when it is needed, as it does where it loads models by parts."""
    from comfy.model_patcher import LowVramPatch

    patch = LowVramPatch(KEY, model.patches)
    patch.prepare(None, None)
    return patch(weight.clone()).float() - weight.float()


@pytest.mark.parametrize("kind", ROTATIONS)
def test_a_rotation_reaches_weights_in_half_precision(sd1, kind):
    from core_personalization.nodes.host.models.lora_loading import apply_lora
    from core_personalization.nodes.host.models.unet_weights import with_lora

    weight, lora = sd1[0].model.state_dict()[KEY], rotation(kind)
    for model in (with_lora(sd1[0], lora), apply_lora(sd1[0], sd1[1], lora, 1.0)[0]):
        exact = change(model, weight)
        assert exact.norm() > 0.1 * weight.norm()
        for half in (torch.float16, torch.bfloat16):
            assert (change(model, weight.to(half)) - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("kind", ROTATIONS)
def test_half_the_strength_of_a_rotation_is_half_its_change(sd1, kind):
    from core_personalization.nodes.host.models.lora_loading import apply_lora

    weight = sd1[0].model.state_dict()[KEY]
    half, whole = (change(apply_lora(*sd1[:2], rotation(kind), strength)[0], weight) for strength in (0.5, 1.0))
    torch.testing.assert_close(half, whole / 2)


def test_rotations_that_were_on_the_model_stay_comfyuis(sd1):
    import comfy.sd
    from comfy.weight_adapter.oft import OFTAdapter
    from core_personalization.nodes.host.models.lora_loading import apply_lora

    before, _ = comfy.sd.load_lora_for_models(sd1[0], None, rotation("OFT"), 0.5, 0.0)
    model, _ = apply_lora(before, sd1[1], rotation("OFT"), 1.0)
    first, ours = (entry[1] for entry in model.patches[KEY])
    assert type(first) is OFTAdapter and type(ours) is not OFTAdapter
