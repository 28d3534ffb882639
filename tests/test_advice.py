"""Settings that are legal and unwise, each said in one line with what to do."""

from __future__ import annotations

import pytest
import torch
from core_personalization.nodes.training import advice


def test_a_note_begins_so_and_what_there_is_no_reason_for_is_left_out():
    assert advice.advised(None, "do this.", None) == ("Note: do this.",)


@pytest.mark.parametrize(
    ("rate", "said"), [(0.005, False), (0.05, False), (0.06, True), (1.0, True), (6e-6, False), (5e-6, True)]
)
def test_a_rate_far_from_the_published_one(rate, said):
    note = advice.on_rate(rate, published=0.005)
    assert (note is not None) == said
    assert not said or "set it to about 0.005" in note


@pytest.mark.parametrize("words", ["dog", "teddy bear", "small brown poodle dog", "T-shirt"])
def test_plain_words_are_well(words):
    assert advice.on_category(words) is None


@pytest.mark.parametrize(
    ("words", "said"), [("this is my dog Rex", "a sentence"), ("🐶", "English"), ("собака", "English")]
)
def test_a_sentence_an_emoji_and_another_language(words, said):
    assert said in advice.on_category(words)


@pytest.mark.parametrize(
    ("side", "own", "said"),
    [(512, 512, False), (768, 512, False), (384, 512, False), (64, 512, True), (512, 1024, True)],
)
def test_a_resolution_far_from_the_models_own(side, own, said):
    note = advice.on_side(side, own)
    assert (note is not None) == said
    assert not said or f"{own} pixels" in note


def test_pictures_that_are_enlarged_more_than_twice():
    """crop takes the short edge, pad the long one."""
    images = [torch.zeros(2, 200, 300, 3), torch.zeros(1, 256, 256, 3)]
    assert advice.on_enlarged(images, 400, "crop") is None
    assert "2 of 3 pictures" in advice.on_enlarged(images, 512, "crop")
    assert "from 200 to 512" in advice.on_enlarged(images, 512, "crop")
    assert advice.on_enlarged(images, 512, "pad") is None


def test_two_checkpoints():
    assert advice.on_checkpoints([]) is None
    assert advice.on_checkpoints(["a.safetensors", "a.safetensors"]) is None
    assert "text encoder is of b.safetensors" in advice.on_checkpoints(["a.safetensors", "b.safetensors"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[("sd_xl_turbo_1.0_fp16", "turbo"), ("DreamShaperXL_Lightning", "Lightning"), ("photonLCM_v10", "LCM")],
        *[("Hyper-SDXL-1step", "Hyper"), ("bigLust_dmd2", "dmd2"), ("juggernaut", None), ("hyperrealism_v3", None)],
    ],
)
def test_a_model_made_for_few_steps_is_known_by_its_name(name, kind):
    note = advice.on_few_steps(f"{name}.safetensors")
    assert (note is not None) == (kind is not None)
    assert kind is None or f"made for few steps ({kind})" in note


def test_regularizers_that_hardly_act():
    regularizers = ("context_embedding", "context_attention")
    weak = {"diffusion": 0.998, "context_embedding": 0.0015, "context_attention": 0.0005}
    assert "0.2% of the gradient" in advice.on_shares(weak, regularizers)
    assert advice.on_shares({**weak, "context_attention": 0.02}, regularizers) is None
    assert advice.on_shares({}, regularizers) is None  # Not measured.
    assert advice.on_shares(weak, ()) is None
