"""The mini world's training as its users run it: from nothing to a checkpoint, and on from the embedded one."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mini_world import embedded, train, unet_training, vae_training
from mini_world.judge import Judge

pytestmark = pytest.mark.host
UNCHANGED = (
    "cond_stage_model.transformer.text_model.final_layer_norm.weight",
    "first_stage_model.taesd_encoder.0.bias",
)
TRAINED = ("model.diffusion_model.out.2.weight", "first_stage_model.taesd_decoder.1.weight")
BRIEFLY = [word for stage in train.MINUTES if stage != "vae" for word in (f"--{stage}-minutes", "0.02")]
WITH_VAE = ("--vae-minutes", "0.02")


@pytest.fixture
def run(comfyui_path, tmp_path, monkeypatch):
    """One picture a step; the same folders for every run."""
    monkeypatch.setattr(train, "HELD_OUT_CAPTIONS", 2)
    monkeypatch.setattr(unet_training, "CAPTIONS_PER_STEP", 1)
    monkeypatch.setattr(vae_training, "PICTURES_PER_STEP", 2)
    folders = ["--work", str(tmp_path / "work"), "--assets", str(tmp_path / "assets")]

    def run(*options: str) -> dict[str, str]:
        train.main(["--captions", "40", *folders, *BRIEFLY, *options])
        assets = tmp_path / "assets"
        embedded.expand(tmp_path / "model.safetensors", assets / embedded.CORE.name, assets / embedded.CHECKSUM.name)
        return embedded.provenance(assets / embedded.CORE.name)

    return run


def test_from_nothing(run, tmp_path):
    made = run(*WITH_VAE)
    Judge.load(tmp_path / "assets" / "judge.safetensors")
    run("--stage", "fp16")
    assert int(made["training.unet_steps"]) > 0
    assert made["training.command"].startswith("python -m mini_world.train --captions 40")
    assert not any(name.startswith("before.") for name in made)
    whole, expanded = load_file(tmp_path / "work" / "fp16.safetensors"), load_file(tmp_path / "model.safetensors")
    assert whole.keys() == expanded.keys()
    for name, weight in whole.items():  # half a step of 8 bits, and fp16's own rounding
        assert (weight.float() - expanded[name].float()).abs().max() <= 0.005 * weight.abs().max() + 1e-6, name


def test_on_from_the_embedded_checkpoint(run, tmp_path):
    made = run("--continue", "--seed", "1")
    assert "--continue" in made["training.command"]
    assert not (tmp_path / "assets" / "judge.safetensors").exists(), "figures of before and after are one judge's"
    before = embedded.provenance()
    assert made["before.training.command"] == before["training.command"]
    assert run("--stage", "export", "--seed", "1") == made, "what it was before is known without the option, too"
    with safe_open(tmp_path / "model.safetensors", framework="pt") as new:
        old = embedded.expand(tmp_path / "old.safetensors")
        with safe_open(old, framework="pt") as former:
            for name in UNCHANGED:
                assert (new.get_tensor(name) == former.get_tensor(name)).all(), name
            for name in TRAINED:
                assert (new.get_tensor(name) != former.get_tensor(name)).any(), name


def test_a_continued_vae_gives_the_unet_other_latents(run, tmp_path):
    run("--continue", "--seed", "1")
    before = torch.load(tmp_path / "work" / "latents.pt")
    made = run("--continue", "--seed", "1", *WITH_VAE)
    assert "--vae-minutes 0.02" in made["training.command"]
    assert not torch.equal(torch.load(tmp_path / "work" / "latents.pt"), before)


@pytest.mark.parametrize(
    "options", [("--unet-minutes", "0"), ("--vae-minutes", "0"), ("--continue", "--vae-minutes", "-1")]
)
def test_minutes_that_train_nothing_are_refused(options, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.parse(["--work", str(tmp_path), *options])
    assert f"{options[-2]}: got {options[-1]}; give more than 0" in capsys.readouterr().err


def test_a_folder_of_a_continued_training_is_no_place_to_begin_from_nothing(tmp_path, capsys):
    (tmp_path / train.BEFORE).write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit):
        train.parse(["--work", str(tmp_path)])
    assert "add --continue, or name another folder" in capsys.readouterr().err
    assert train.parse(["--work", str(tmp_path), "--continue"])[1].minutes["vae"] == 0
