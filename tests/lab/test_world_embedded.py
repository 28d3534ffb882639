"""The embedded checkpoint: what is packed comes back, and what the repository holds is intact."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lab.world import embedded
from lab.world.drawing import dataset
from lab.world.export import export_core, pack, unpack
from lab.world.networks.clip_fill import LAYERS, unknown_token_rows
from lab.world.networks.quantization import dequantize, quantize
from lab.world.networks.text_encoder import START, TextEncoder
from lab.world.networks.unet import UNet
from lab.world.networks.vae import TinyVAE
from lab.world.training.vae_training import psnr

KNOWN = [320, 1929, START, START + 1]
FIRST_VALUES = [-0.01201629638671875, -0.0194854736328125, -0.04058837890625]


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    return TinyVAE(), TextEncoder(KNOWN), UNet()


def test_quantized_weights_are_within_half_a_step():
    weight = torch.randn(7, 5, 3, 3) * torch.logspace(-3, 2, 7).view(-1, 1, 1, 1)
    restored = dequantize(quantize({"w": weight}))["w"].float()
    step = weight.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1) / 127
    assert ((restored - weight).abs() <= 0.5 * step + 1e-3 * weight.abs() + 1e-7).all()


def test_unknown_token_rows_are_the_same_everywhere():
    rows = unknown_token_rows()
    assert rows.std().item() == pytest.approx(0.024, rel=0.01)
    assert rows[0, :3].tolist() == pytest.approx(FIRST_VALUES)


def test_a_rebuilt_text_encoder_is_the_trained_one_but_rounded(parts):
    from transformers import CLIPTextConfig, CLIPTextModel

    _, text, _ = parts
    state = embedded.rebuild(pack(*parts))
    config = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=LAYERS,
        num_attention_heads=12,
        hidden_act="quick_gelu",
    )
    reference = CLIPTextModel(config).eval()
    prefix = embedded.TEXT_PREFIX.removesuffix("text_model.")
    weights = {name.removeprefix(prefix): value.float() for name, value in state.items() if name.startswith(prefix)}
    inner = next(iter(reference.state_dict())).startswith("text_model.")
    weights = weights if inner else {name.removeprefix("text_model."): value for name, value in weights.items()}
    missing, unexpected = reference.load_state_dict(weights, strict=False)
    assert not unexpected and not [name for name in missing if "position_ids" not in name]
    ids = torch.tensor([[START, 320, 1929, 5000, *[START + 1] * 73]])
    with torch.no_grad():
        difference = reference(ids).last_hidden_state - text(ids)
    assert difference.abs().mean() < 0.02


def test_export_writes_what_expands_to_its_checksum(parts, tmp_path):
    core = tmp_path / "core.safetensors"
    export_core(*parts, provenance={"training.date": "today"}, core=core)
    destination = tmp_path / "deep" / "model.safetensors"
    checksum = tmp_path / embedded.CHECKSUM.name
    assert embedded.expand(destination, core, checksum) == destination
    with safe_open(destination, framework="pt") as file:
        assert file.get_slice("model.diffusion_model.input_blocks.0.0.weight").get_shape() == [320, 4, 3, 3]
        assert file.get_slice("first_stage_model.taesd_decoder.1.weight").get_shape() == [64, 4, 3, 3]
    written = destination.stat().st_mtime_ns
    embedded.expand(destination, core, checksum)
    assert destination.stat().st_mtime_ns == written
    checksum.write_text("0" * 64)
    with pytest.raises(ValueError, match="expected 0000"):
        embedded.expand(destination, core, checksum)
    assert [file.name for file in destination.parent.iterdir()] == [destination.name]


def test_what_is_unpacked_packs_to_the_same(parts, tmp_path):
    """Taken apart and packed once more, it is the same; only the first packing rounds."""
    core = tmp_path / "core.safetensors"
    export_core(*parts, provenance={}, core=core)
    first, second = load_file(core), pack(*unpack(core))
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(
            second[name].float(), weight.float(), rtol=1e-3, atol=1e-6 if weight.is_floating_point() else 1.0
        )
    vae, images = unpack(core)[0], torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(vae.encode(images), vae.taesd_encoder(images))


def test_the_embedded_checkpoint_is_intact_and_names_its_origin(tmp_path):
    assert embedded.CORE.stat().st_size < 45e6
    embedded.expand(tmp_path / "mini.safetensors")
    assert embedded.provenance()["modelspec.license"] == "MIT"


@torch.no_grad()
def test_the_embedded_vae_gives_pictures_back_also_in_half():
    vae, device = unpack()[0].eval(), torch.device("cpu")
    pictures = dataset.draw(10, seed=10_000, processes=1).pictures
    assert psnr(vae, pictures, device) > 22
    images = torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2) / 255
    latents = vae.encode(images)
    in_half = vae.taesd_encoder.half()(images.half()).float()
    assert (in_half - latents).abs().max() < 0.05 * latents.abs().max()
