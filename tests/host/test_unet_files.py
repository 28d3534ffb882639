"""Files of a U-Net finetune, in core's loaders, in its U-Net and in diffusers; all four families."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from core_personalization.core_ops.weights.low_rank import LowRank
from core_personalization.nodes.files.safe_files import read, tensor_hash
from families.build import FAMILIES
from families.finetuned import CARD, Finetuned, finetuned, lora_of, predict, relative, save_unet, with_weights
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

COMPLAINTS = ("not loaded", "missing", "unexpected", "error", "left over")


@pytest.fixture
def quiet(caplog):
    """Fails when the host complained of anything."""
    with caplog.at_level(logging.INFO):
        yield
    assert [line for line in caplog.messages if any(word in line.lower() for word in COMPLAINTS)] == []


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request) -> Finetuned:
    return finetuned(request.param)


@pytest.fixture(scope="module")
def sd1() -> Finetuned:
    return finetuned("sd1")


KOHYA = {
    "sd1": {
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight":
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
    },
    "sd2": {"output_blocks.0.0.in_layers.2.weight": "lora_unet_up_blocks_0_resnets_0_conv1"},
    "sd2_v": {"middle_block.2.emb_layers.1.weight": "lora_unet_mid_block_resnets_1_time_emb_proj"},
    "sdxl": {
        "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight":
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k",
    },
}  # fmt: skip


def test_modules_have_kohyas_names_and_core_maps_each_back(family):
    import comfy.lora
    from core_personalization.nodes.host.models.unet_weights import kohya_names

    names = kohya_names(family.model)
    known = comfy.lora.model_lora_keys_unet(family.model.model, {})
    assert set(names) == {key for key in family.base if key.endswith(".weight")}
    assert all(known[name] == f"diffusion_model.{path}" for path, name in names.items())
    assert len(set(names.values())) == len(names)
    assert KOHYA[family.name].items() <= names.items()


def test_a_full_rank_lora_is_the_finetune_in_core(family, quiet):
    """Through the file, and core's Load LoRA."""
    from core_personalization.nodes.files.unet_files import save_adapter

    from nodes import LoraLoader

    name = f"full-{family.name}"
    path = save_adapter(name, lora_of(family, 10_000), CARD, overwrite=True)
    loaded, _ = LoraLoader().load_lora(family.model, family.clip, path.name, 1.0, 1.0)
    expected = predict(family, with_weights(family, family.changed))
    assert relative(predict(family, family.model), expected) > 1e-2
    assert relative(predict(family, loaded), expected) < 1e-5


def test_the_error_falls_with_the_rank(sd1):
    from comfy_extras.nodes_train import LoraModelLoader

    expected = predict(sd1, with_weights(sd1, sd1.changed))
    errors = []
    for rank in (2, 32, 10_000):
        loaded = LoraModelLoader.execute(sd1.model, lora_of(sd1, rank), 1.0).args[0]
        errors.append(relative(predict(sd1, loaded), expected))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 100 * errors[-1]


@pytest.mark.parametrize("bypass", [False, True])
def test_core_takes_it_as_a_lora_model(sd1, bypass, quiet):
    """Load LoRA Model; in bypass mode it computes up and down as layers of their own."""
    from comfy_extras.nodes_train import LoraModelLoader

    lora = lora_of(sd1, 10_000, biases=False)
    matrices = {key: weight for key, weight in sd1.changed.items() if weight.ndim > 1}
    with torch.inference_mode():
        loaded = LoraModelLoader.execute(sd1.model, lora, 1.0, bypass=bypass).args[0]
    assert relative(predict(sd1, loaded), predict(sd1, with_weights(sd1, matrices))) < 1e-5


def test_core_saves_it_and_reads_it_back(sd1, output_folder, quiet):
    """Save LoRA Weights, then Load LoRA."""
    from comfy_extras.nodes_train import SaveLoRA
    from core_personalization.nodes.concept import LoraModel

    from nodes import LoraLoader

    lora = LoraModel(lora_of(sd1, 4), {"steps": 1})
    SaveLoRA.execute(lora, "loras/by-core")
    (path,) = (output_folder / "loras").glob("by-core*.safetensors")
    written = load_file(path)
    assert all(torch.equal(written[key], lora[key]) for key in lora)
    LoraLoader().load_lora(sd1.model, sd1.clip, path.name, 1.0, 1.0)


@pytest.mark.parametrize("adapter", ["LoHa", "LoKr", "OFT"])
def test_the_hosts_other_adapters_are_written_for_core_too(sd1, adapter, quiet):
    from comfy.weight_adapter import adapter_maps
    from core_personalization.nodes.files.unet_files import save_adapter
    from core_personalization.nodes.host.models.unet_weights import kohya_names

    from nodes import LoraLoader

    path = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    trained = adapter_maps[adapter].create_train(sd1.base[path], rank=4, alpha=4.0)
    random = torch.Generator().manual_seed(0)
    for parameter in filter(lambda parameter: parameter.requires_grad, trained.parameters()):
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=random)
    expected = trained(sd1.base[path]).detach()
    tensors = {f"{kohya_names(sd1.model)[path]}.{key}": weight for key, weight in trained.state_dict().items()}
    name = f"sd1-{adapter}"
    path_of_file = save_adapter(name, tensors, CARD, overwrite=True)
    assert read(path_of_file)[1]["ss_network_module"] == "lycoris.kohya"
    loaded, _ = LoraLoader().load_lora(sd1.model, sd1.clip, path_of_file.name, 1.0, 1.0)
    assert relative(predict(sd1, loaded), predict(sd1, with_weights(sd1, {path: expected}))) < 1e-5


def test_diffusers_adds_to_every_module_what_core_adds(family):
    """Its load_lora_weights up to the call of peft, and then peft's merge: weight + alpha / r · B A."""
    from core_personalization.nodes.files.unet_files import save_adapter
    from core_personalization.nodes.host.models.unet_weights import lora_state_dict
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from diffusers.utils import convert_unet_state_dict_to_peft
    from oracles.unet import unet_config

    random = torch.Generator().manual_seed(0)

    def pair(weight: Tensor) -> LowRank:
        up = torch.randn(len(weight), 1, *(1,) * (weight.ndim - 2), generator=random)
        return LowRank(up, torch.randn(1, *weight.shape[1:], generator=random), alpha=0.5)

    def in_diffusers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return convert_ldm_unet_checkpoint({f"model.diffusion_model.{k}": v for k, v in weights.items()}, unet.config)

    pairs = {path: pair(weight) for path, weight in family.base.items() if weight.ndim > 1}
    path = save_adapter(f"diffusers-{family.name}", lora_state_dict(family.model, pairs), CARD, overwrite=True)
    pipeline = StableDiffusionXLPipeline if family.name == "sdxl" else StableDiffusionPipeline
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(FAMILIES[family.name]))
    tensors, alphas = pipeline.lora_state_dict(path.parent, weight_name=path.name, unet_config=unet.config)
    assert set(alphas.values()) == {0.5}
    in_peft = convert_unet_state_dict_to_peft({key.removeprefix("unet."): value for key, value in tensors.items()})
    assert len(in_peft) == 2 * len(pairs)
    merged = in_diffusers(family.base)
    for key in [key for key in in_peft if ".lora_A." in key]:
        down, up = in_peft[key], in_peft[key.replace("lora_A", "lora_B")]
        module = unet.get_submodule(key.partition(".lora_A.")[0])
        assert up.ndim == down.ndim == module.weight.ndim
        name = key.replace(".lora_A", "")
        merged[name] = merged[name] + 0.5 * (up.flatten(1) @ down.flatten(1)).view(module.weight.shape)
    expected = in_diffusers(family.base | {path: family.base[path] + pair.difference() for path, pair in pairs.items()})
    assert merged.keys() == unet.state_dict().keys()
    assert all(torch.allclose(merged[key], expected[key], atol=1e-5) for key in merged)


def test_diffusers_refuses_a_file_with_biases(sd1):
    """Why `lora_state_dict` writes them only when asked."""
    from diffusers import StableDiffusionPipeline

    with pytest.raises(ValueError, match="have not been correctly renamed"):
        StableDiffusionPipeline.lora_state_dict(lora_of(sd1, 2))


def test_the_whole_unet_is_loaded_by_core_and_predicts_the_same(family, output_folder, quiet):
    from nodes import UNETLoader

    path = save_unet(f"whole-{family.name}", family.model, family.tuned, CARD, overwrite=True)
    assert path.parent == output_folder / "diffusion_models"
    loaded = UNETLoader().load_unet(path.name, "default")[0]
    assert type(loaded.model) is type(family.model.model)
    assert loaded.model.model_type == family.model.model.model_type
    expected = predict(family, with_weights(family, family.changed))
    assert relative(predict(family, loaded), expected) < 1e-6


def test_v_prediction_with_zero_terminal_snr_is_marked(family):
    """For SDXL it reads two keys, and names them as unexpected; for SD 1.x and 2.x it knows no mark."""
    from comfy.model_base import ModelType
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    from nodes import UNETLoader

    (patched,) = ModelSamplingDiscrete().patch(family.model, "v_prediction", zsnr=True)
    path = save_unet(f"zsnr-{family.name}", patched, family.base, CARD, overwrite=True)
    with safe_open(path, "pt") as file:
        assert file.metadata()["modelspec.prediction_type"] == "v"
        marks = set(file.keys()) - family.base.keys()
    if family.name != "sdxl":
        assert marks == set()
        return
    assert marks == {"v_pred", "ztsnr"}
    loaded = UNETLoader().load_unet(path.name, "default")[0]
    assert loaded.model.model_type == ModelType.V_PREDICTION
    schedules = [model.get_model_object("model_sampling").sigmas for model in (loaded, patched)]
    assert torch.equal(*schedules)


@pytest.mark.parametrize(("loaded", "stored"), [("float32",) * 2, ("float16",) * 2, ("float8_e4m3fn", "float16")])
def test_the_number_format_is_that_of_the_base(loaded, stored):
    from core_personalization.nodes.host.models.unet_weights import stored_dtype

    assert stored_dtype(getattr(torch, loaded)) == getattr(torch, stored)


@pytest.mark.parametrize("change", ["missing", "more"])
def test_a_unet_with_other_weights_is_not_written(sd1, output_folder, change):
    weights = {**sd1.base, "more": torch.zeros(1)}
    if change == "missing":
        del weights["more"], weights["out.0.bias"]
    with pytest.raises(ValueError, match=r"tensors: (more|out\.0\.bias) are missing or not of this U-Net"):
        save_unet("wrong", sd1.model, weights, CARD, overwrite=False)
    assert not (output_folder / "diffusion_models" / "wrong.safetensors").exists()


def test_the_file_says_what_it_is(sd1):
    from core_personalization.nodes.files.unet_files import save_adapter

    path = save_adapter("about", lora_of(sd1, 4), CARD, overwrite=True)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert metadata["modelspec.hash_sha256"] == tensor_hash(load_file(path))
    assert metadata["modelspec.trigger_phrase"] == "embedding:my-cat"
    assert metadata["ss_network_module"] == "networks.lora"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("4", "4.0")
    assert json.loads(metadata["core_personalization.settings"]) == {"rank": 4}


def test_a_taken_name_or_one_with_a_path_is_refused_first(output_folder):
    from core_personalization.nodes.files.unet_files import validate_new_file

    (output_folder / "loras" / "taken.safetensors").touch()
    with pytest.raises(ValueError, match=r"file_name: .*taken.* exists already"):
        validate_new_file("loras", "taken", overwrite=False, parameter="file_name")
    validate_new_file("loras", "taken", overwrite=True)
    with pytest.raises(ValueError, match=r"name: '\.\./x' cannot be used"):
        validate_new_file("diffusion_models", "../x", overwrite=True)
