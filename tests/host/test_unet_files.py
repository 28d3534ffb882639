"""Files of a U-Net finetune, in core's loaders, in its U-Net and in diffusers; all four families."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from families.build import FAMILIES
from families.load import load_family
from torch import Tensor

CARD = {
    "architecture": "stable-diffusion-v1",
    "base_model": "base.safetensors",
    "base_model_fingerprint": "0" * 64,
    "pack_version": "1",
    "resolution": 64,
    "phrase": "embedding:my-cat",
    "steps_done": 7,
    "settings": {"rank": 4},
    "rank": 4,
    "alpha": 4.0,
}
COMPLAINTS = ("not loaded", "missing", "unexpected", "error", "left over")
MATRICES = ("attn2.to_k.weight", "attn2.to_out.0.weight", "ff.net.0.proj.weight", "proj_in.weight")


@pytest.fixture(scope="module", autouse=True)
def folders() -> Path:
    """As ComfyUI's main.py does: its loaders also look into the output folder."""
    import folder_paths

    output = Path(folder_paths.get_output_directory())
    for kind in ("loras", "diffusion_models"):
        folder_paths.add_model_folder_path(kind, str(output / kind))
    return output


@pytest.fixture
def quiet(caplog):
    """Fails when the host complained of anything."""
    with caplog.at_level(logging.INFO):
        yield
    assert [line for line in caplog.messages if any(word in line.lower() for word in COMPLAINTS)] == []


@dataclass(frozen=True)
class Finetuned:
    """A family's MODEL, and its U-Net's weights with every one of them changed."""

    name: str
    model: Any
    clip: Any
    base: dict[str, Tensor]
    tuned: dict[str, Tensor]


def finetuned(name: str) -> Finetuned:
    model, clip, _ = load_family(name)
    base = {key: weight.clone() for key, weight in model.model.diffusion_model.state_dict().items()}
    random = torch.Generator().manual_seed(0)
    tuned = {
        key: weight + 0.1 * weight.std() * torch.randn(weight.shape, generator=random) for key, weight in base.items()
    }
    return Finetuned(name, model, clip, base, tuned)


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request) -> Finetuned:
    return finetuned(request.param)


@pytest.fixture(scope="module")
def sd1() -> Finetuned:
    return finetuned("sd1")


def some(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A few matrices of every kind, so that tests of names need no decomposition of every weight."""
    return {key: weight for key, weight in weights.items() if key.endswith(MATRICES)}


def predict(family: Finetuned, model: Any) -> Tensor:
    """The denoised latents of core's own model call, patches applied, at one sigma."""
    import comfy.model_management
    import comfy.sampler_helpers

    random = torch.Generator().manual_seed(1)
    unet_config = FAMILIES[family.name]
    x = torch.randn(1, 4, 8, 8, generator=random)
    context = torch.randn(1, 77, unet_config.context_width, generator=random)
    y = torch.randn(1, unet_config.pooled_width, generator=random) if unet_config.pooled_width else None
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([model], force_full_load=True)
        return model.model.apply_model(x, torch.tensor([2.0]), c_crossattn=context, y=y).clone()


def with_weights(family: Finetuned, weights: dict[str, Tensor]) -> Any:
    """What the file should be equal to: a MODEL whose weights are set to these."""
    patched = family.model.clone()
    patched.add_patches({f"diffusion_model.{key}": ("set", (weight,)) for key, weight in weights.items()})
    return patched


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_every_module_has_a_name_that_core_maps_back_to_it(family):
    import comfy.lora
    from core_personalization.nodes.host.unet_files import kohya_names

    names = kohya_names(family.model)
    known = comfy.lora.model_lora_keys_unet(family.model.model, {})
    assert set(names) == {key for key in family.base if key.endswith(".weight")}
    assert all(known[name] == f"diffusion_model.{path}" for path, name in names.items())
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize(
    ("family_name", "path", "name"),
    [
        ("sd1", "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
         "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"),
        ("sd2", "output_blocks.0.0.in_layers.2.weight", "lora_unet_up_blocks_0_resnets_0_conv1"),
        ("sdxl", "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
         "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"),
    ],
)  # fmt: skip
def test_names_are_those_of_kohyas_trainers(family_name, path, name):
    from core_personalization.nodes.host.unet_files import kohya_names

    assert kohya_names(load_family(family_name)[0])[path] == name


def test_a_full_rank_lora_is_the_finetune_in_core(family, quiet):
    """Through the file, and core's Load LoRA."""
    from core_personalization.core_ops.low_rank import extract_lora
    from core_personalization.nodes.host import unet_files
    from nodes import LoraLoader

    extracted = extract_lora(family.base, family.tuned, rank=10_000)
    assert set(extracted.pairs) | set(extracted.differences) == set(family.tuned)
    assert extracted.kept == pytest.approx(1)
    tensors = unet_files.lora_state_dict(family.model, extracted.pairs, extracted.differences)
    unet_files.save_adapter(f"full-{family.name}", tensors, CARD, overwrite=True)
    loaded, _ = LoraLoader().load_lora(family.model, family.clip, f"full-{family.name}.safetensors", 1.0, 1.0)
    expected = predict(family, with_weights(family, family.tuned))
    assert relative(predict(family, family.model), expected) > 1e-2
    assert relative(predict(family, loaded), expected) < 1e-5
