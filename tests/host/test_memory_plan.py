"""What a training says before its first step that it will take, and what it then takes."""

from __future__ import annotations

import re

import pytest
from families.embedding import embedding_run
from families.finetuning import finetune_run
from families.load import load_family

TOLERANCE = 0.15


@pytest.fixture(scope="module")
def models():
    return load_family("sd1")


def planned_and_taken(line: str) -> tuple[float, float]:
    found = re.search(r"needs about ([\d.]+) GiB .*, took ([\d.]+) GiB", line)
    assert found, line
    return float(found[1]), float(found[2])


def test_train_embedding_refuses_before_its_first_step_what_cannot_fit(models, monkeypatch):
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_, **__: 2**20)
    with pytest.raises(ValueError, match=r"memory: .*activations .*GiB.*gradient_checkpointing"):
        embedding_run(models, resolution=64, batch_size=1)


def test_less_is_planned_with_checkpointing_and_for_smaller_batches(models):
    lines = [
        embedding_run(models, resolution=128, batch_size=batch, gradient_checkpointing=recompute).memory
        for batch, recompute in ((2, False), (1, False), (2, True))
    ]
    whole, single, recomputed = (float(re.findall(r"activations ([\d.]+) GiB", line)[0]) for line in lines)
    assert single < whole
    assert recomputed < whole


@pytest.mark.long
@pytest.mark.parametrize("method", ["CoRe", "Textual Inversion", "AttnDreamBooth stage 1"])
def test_train_embedding_takes_what_was_planned(models, method):
    run = embedding_run(models, method=method, resolution=256, batch_size=2, steps=2)
    run.train()
    planned, taken = planned_and_taken(run.memory)
    assert taken == pytest.approx(planned, rel=TOLERANCE), run.memory


@pytest.mark.long
@pytest.mark.parametrize(("form", "fused"), [("full weights", False), ("full weights", True), ("LoRA", False)])
def test_finetuning_takes_what_was_planned(models, form, fused):
    run = finetune_run(models, form=form, fused_backward=fused, resolution=256, batch_size=2, steps=2)
    run.train()
    planned, taken = planned_and_taken(run.memory)
    assert taken == pytest.approx(planned, rel=TOLERANCE), run.memory
