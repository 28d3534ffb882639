"""The mini world's training as its users run it: from nothing to a checkpoint."""

from __future__ import annotations

import argparse

import pytest
from safetensors import safe_open

from lab.commands import world
from lab.world import embedded
from lab.world.networks.judge import Judge
from lab.world.training import stages, unet_training, vae_training

pytestmark = pytest.mark.host
BRIEFLY = [word for stage in world.MINUTES for word in (f"--{stage}-minutes", "0.02")]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    world.add_arguments(parser)
    return parser.parse_args(["train", *words])


@pytest.fixture
def run(comfyui_path, tmp_path, monkeypatch):
    """One picture a step; the same folder for every run."""
    monkeypatch.setattr(stages, "HELD_OUT_CAPTIONS", 2)
    monkeypatch.setattr(unet_training, "CAPTIONS_PER_STEP", 1)
    monkeypatch.setattr(vae_training, "PICTURES_PER_STEP", 2)

    def run(*options: str) -> dict[str, str]:
        world.run(parsed("--work", str(tmp_path), "--captions", "40", *BRIEFLY, *options))
        return embedded.provenance(tmp_path / embedded.CORE.name)

    return run


@pytest.mark.long
def test_from_nothing_and_a_stage_run_again_goes_on(run, tmp_path):
    made = run()
    assert made["training.command"].startswith("python -m lab world train --captions 40")
    Judge.load(tmp_path / "judge.safetensors")
    model = tmp_path / "model.safetensors"
    embedded.expand(model, tmp_path / embedded.CORE.name, tmp_path / embedded.CHECKSUM.name)
    with safe_open(model, "pt") as file:
        assert "model.diffusion_model.out.2.weight" in set(file.keys())
    run("--stage", "unet", "--unet-minutes", "0.04")
    assert int(run("--stage", "export")["training.unet_steps"]) > int(made["training.unet_steps"]) > 0


@pytest.mark.parametrize("minutes", ["0", "-1"])
def test_minutes_that_train_nothing_are_refused(minutes, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parsed("--work", str(tmp_path), "--unet-minutes", minutes)
    assert f"--unet-minutes: got {minutes}; give more than 0" in capsys.readouterr().err


def test_the_command_names_the_stages_that_there_are():
    assert tuple(stages.STAGES) == world.STAGES
