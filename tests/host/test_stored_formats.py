"""U-Nets that were loaded in eight bits stay so under an embedding or an adapter, and train as their values say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from families.build import FAMILIES, state_dict
from families.finetuning import execute, finetune_run, from_core, prediction
from families.load import load_checkpoint, text_encoder_options
from safetensors.torch import load_file

LAYER = "model.diffusion_model.middle_block.1.transformer_blocks.0."
QUANTISED = tuple(f"{LAYER}{name}" for name in ("attn1.to_q", "attn2.to_k", "attn2.to_v", "ff.net.2"))
FORMATS = {"scaled fp8": (torch.float8_e4m3fn, 448.0), "int8": (torch.int8, 127.0)}
NAMES = {"scaled fp8": "float8_e4m3fn", "int8": "int8_tensorwise"}


@dataclass(frozen=True)
class Loaded:
    """MODEL, CLIP and VAE with a U-Net in eight bits, and with the same values in fp32."""

    stored: Any
    values: Any


def in_fp8() -> Loaded:
    """Every weight in eight bits, as the host loads a checkpoint when it is asked for weight_dtype fp8."""
    from comfy.sd import load_state_dict_guess_config

    with torch.inference_mode():
        stored = load_state_dict_guess_config(
            state_dict("sd1"),
            model_options={"dtype": torch.float8_e4m3fn},
            te_model_options=text_encoder_options(FAMILIES["sd1"]),
        )[:3]
    values = {
        key: weight.to(torch.float8_e4m3fn).float() if ".diffusion_model." in key else weight
        for key, weight in state_dict("sd1").items()
    }
    return Loaded(stored, load_checkpoint(FAMILIES["sd1"], values))


def quantised(kind: str, input_scales: bool = False) -> Loaded:
    """As a file has it: bytes, a scale, and a note of the format beside each.

    input_scales: also for the layers' inputs, as cards with arithmetic in eight bits use them.
    """
    weights, values = state_dict("sd1"), state_dict("sd1")
    storage, highest = FORMATS[kind]
    for layer in QUANTISED:
        weight = weights[f"{layer}.weight"]
        scale = (weight.abs().max() / highest).float()
        stored = ((weight / scale).round() if storage == torch.int8 else weight / scale).to(storage)
        note = json.dumps({"format": NAMES[kind]}).encode()
        weights[f"{layer}.weight"], weights[f"{layer}.weight_scale"] = stored, scale
        weights[f"{layer}.comfy_quant"] = torch.frombuffer(bytearray(note), dtype=torch.uint8)
        if input_scales:
            weights[f"{layer}.input_scale"] = torch.tensor(0.01)
        values[f"{layer}.weight"] = stored.float() * scale
    return Loaded(load_checkpoint(FAMILIES["sd1"], weights), load_checkpoint(FAMILIES["sd1"], values))


@pytest.fixture(scope="module", params=["fp8", *FORMATS])
def loaded(request) -> Loaded:
    return in_fp8() if request.param == "fp8" else quantised(request.param)


def takes_a_byte(weight: torch.Tensor) -> bool:
    return type(weight.data) is not torch.Tensor or weight.dtype.itemsize == 1


@pytest.mark.parametrize("form", ["LoRA", "LoKr", "full weights"])
def test_a_finetune_gives_what_it_gives_on_the_weights_values(loaded, form):
    settings = {"form": form, "scope": "cross-attention layers", "learning_rate": 1e-2, "steps": 2}
    losses = execute(loaded.stored, **settings, name="stored")[2]["loss"]
    expected = execute(loaded.values, **settings, name="values")[2]["loss"]
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[0] != losses[1]


@pytest.fixture(scope="module", params=[False, True], ids=["inputs as they are", "inputs with scales"])
def for_native_fp8(request) -> Loaded:
    """As ComfyUI loads it on a card that multiplies in fp8."""
    import comfy.model_management

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.model_management, "SUPPORT_FP8_OPS", True)
        return quantised("scaled fp8", input_scales=request.param)


@pytest.mark.parametrize("form", ["LoKr", "full weights"])
def test_on_a_card_with_fp8_inputs_of_trained_layers_are_not_rounded(for_native_fp8, form):
    settings = {"form": form, "scope": "cross-attention layers", "learning_rate": 1e-2, "steps": 2}
    losses = execute(for_native_fp8.stored, **settings, name="stored")[2]["loss"]
    assert losses == pytest.approx(execute(for_native_fp8.values, **settings, name="values")[2]["loss"], rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scales_of_inputs_are_not_trained(for_native_fp8, precision):
    path = execute(for_native_fp8.stored, form="full weights", precision=precision, steps=1, name=precision)[5]
    assert {name.rpartition(".")[2] for name in load_file(path)} == {"weight", "bias"}


def test_frozen_matrices_take_a_byte_a_number(loaded):
    run = finetune_run(loaded.stored, form="LoRA", scope="cross-attention layers")
    own = loaded.stored[0].model.diffusion_model.named_parameters()
    stored = [name for name, weight in own if takes_a_byte(weight) and weight.ndim > 1]
    assert len(stored) >= len(QUANTISED)
    assert all(takes_a_byte(run.denoiser.unet.get_parameter(name)) for name in stored)


def test_a_lora_on_a_stored_format_changes_what_core_draws(loaded):
    settings = {"form": "LoRA", "scope": "cross-attention layers", "learning_rate": 1e-1, "steps": 2}
    result = execute(loaded.stored, **settings, name="on-stored")
    drawn, base = prediction(from_core("lora", loaded.stored, result[5])), prediction(loaded.stored[0])
    assert not torch.equal(drawn, base)
    torch.testing.assert_close(prediction(result[0]), drawn)
