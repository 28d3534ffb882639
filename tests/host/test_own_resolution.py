"""resolution 0: the model's own, in all four families; what is written and handed on holds the number."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from families.embedding import SETTINGS, embedding_run, execute
from families.load import load_family
from safetensors import safe_open

OWN = {"sd1": 512, "sd2": 512, "sd2_v": 768, "sdxl": 1024}


@pytest.mark.parametrize("family", OWN)
def test_every_family_has_its_own(family):
    from core_personalization.nodes.host.models.denoiser import own_side

    assert own_side(load_family(family)[0]) == OWN[family]


@pytest.fixture
def made_for_64(monkeypatch) -> None:
    """A training at 512 pixels takes minutes."""
    from core_personalization.nodes.embedding import embedding_inputs
    from core_personalization.nodes.training import training_inputs

    for module in (embedding_inputs, training_inputs):
        monkeypatch.setattr(module, "own_side", lambda model: 64)


def test_card_output_and_what_is_compared_hold_the_number(sd1, embeddings, made_for_64):
    given = {"steps": 1, "batch_size": 1, "method": "Textual Inversion", "start": "anew", "concept_name": "own-side"}
    *_, side = execute(sd1, resolution=0, **given)
    assert side == 64
    with safe_open(embeddings / "own-side.safetensors", framework="pt") as file:
        card = file.metadata()
    assert json.loads(card["core_personalization.resolution"]) == 64
    assert json.loads(card["core_personalization.settings"])["resolution"] == 64
    assert embedding_run(sd1, resolution=0).checked.made_of == embedding_run(sd1, resolution=64).checked.made_of


def test_three_hundred_steps_are_rescaled_as_the_paper_says():
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings

    settings = EmbeddingSettings()
    assert settings.steps == 300 and settings.rescaled_steps == (120, 180)
    assert replace(settings, steps=100).rescaled_steps == (40, 60)
    assert replace(settings, steps=1).rescaled_steps == (1, 1)
    assert replace(settings, rescale_to=0.0).rescaled_steps[1] == 0


def notes_of(models: Any, **given: Any) -> list[str]:
    return [note for note in embedding_run(models, **given).checked.notes if note.startswith("Note:")]


def test_unwise_settings_are_said_before_the_first_step(sd1, made_for_64):
    assert notes_of(sd1) == []
    large = [torch.rand(1, 16, 16, 3)]
    assert "1 of 1 pictures are enlarged" in notes_of(sd1, images=large)[0]
    assert "200 times" in notes_of(sd1, learning_rate=1.0)[0]
    assert "sentence" in notes_of(sd1, super_category="this is my own dog")[0]
    assert "far from the 64" in notes_of(sd1, resolution=32)[0]
    assert len(notes_of(sd1, learning_rate=1.0, resolution=128, images=large)) == 3


@pytest.mark.parametrize(("weight", "said"), [(1e-9, True), (1e6, False)])
def test_regularizers_that_hardly_act_are_said_in_the_end(sd1, made_for_64, weight, said):
    from core_personalization.nodes.embedding.embedding_inputs import check_inputs
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
    from core_personalization.nodes.embedding.embedding_training import train_embedding
    from core_personalization.nodes.host.models.host_models import HostModels
    from core_personalization.nodes.settings import validated

    weights = {"embedding_weight": weight, "attention_weight": weight, "rescale_to": 0.0, "initial_words": "cat"}
    chosen = {**SETTINGS, "steps": 1, "start": "anew", "concept_name": "hardly", **weights}
    host, images = HostModels(*sd1), [torch.rand(1, 64, 64, 3)]
    with torch.inference_mode():
        checked = check_inputs(host, images, None, None, validated(EmbeddingSettings, chosen))
        summary = train_embedding(host, checked, None).summary
    assert ("Note: CoRe's terms had 0.0% of the gradient" in summary) == said
