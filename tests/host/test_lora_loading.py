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
