"""What a vision-language model is asked for captions, and which models are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families.captioning import ANSWER, execute
from families.vision_language import load_vision_language


@pytest.fixture(scope="module")
def reader():
    """A vision-language model that always answers `ANSWER`."""
    return load_vision_language(ANSWER)


@pytest.fixture(scope="module")
def random_reader():
    return load_vision_language()


def test_the_answer_depends_on_the_picture_and_on_the_seed(random_reader):
    from core_personalization.nodes.host.models.text_generation import Generation, describe

    def answer(seed: int, picture: torch.Tensor) -> str:
        with torch.inference_mode():
            return describe(random_reader, "What is this?", picture, Generation(16, 1.0, seed))

    black, white = torch.zeros(3, 64, 64), torch.ones(3, 64, 64)
    assert answer(0, black) == answer(0, black)
    assert answer(0, black) != answer(0, white)
    assert answer(0, black) != answer(1, black)


def test_the_model_is_asked_as_core_generate_text_asks_it(reader, monkeypatch):
    """Same tokens, same sampling values."""
    from comfy_extras.nodes_textgen import TextGenerate
    from core_personalization.nodes.host.models.text_generation import Generation, describe

    calls: list[tuple[Any, dict]] = []
    monkeypatch.setattr(reader, "generate", lambda tokens, **given: calls.append((tokens, given)) or [1])
    picture = torch.rand(1, 64, 96, 3)
    sampling = {"sampling_mode": "on", "temperature": 0.5, "top_k": 64, "top_p": 0.95, "min_p": 0.05}
    sampling |= {"seed": 7, "repetition_penalty": 1.05}
    TextGenerate.execute(reader, "What?", 32, sampling, image=picture)
    describe(reader, "What?", picture[0].movedim(-1, 0), Generation(32, 0.5, 7))
    TextGenerate.execute(reader, "What?", 32, {"sampling_mode": "off"}, image=picture)
    describe(reader, "What?", picture[0].movedim(-1, 0), Generation(32, 0.0, 7))
    for (core_tokens, core), (our_tokens, ours) in (calls[:2], calls[2:]):
        assert ids(core_tokens) == ids(our_tokens)
        relevant = set(core) if core["do_sample"] else {"do_sample", "max_length"}
        assert {name: core[name] for name in relevant if core[name]} == {
            name: ours[name] for name in relevant if core[name]
        }


def ids(tokens: dict) -> list:
    return [
        entry[0] if isinstance(entry[0], int) else entry[0]["data"].tolist()
        for rows in tokens.values()
        for row in rows
        for entry in row
    ]


def test_a_large_picture_is_made_smaller_in_its_proportions(reader, monkeypatch):
    from core_personalization.nodes.host.models.text_generation import MOST_PIXELS, Generation, describe

    seen: list[torch.Tensor] = []
    tokenize = reader.tokenize
    monkeypatch.setattr(reader, "tokenize", lambda *a, image, **k: seen.append(image) or tokenize(*a, image=image, **k))
    monkeypatch.setattr(reader, "generate", lambda tokens, **given: [1])
    describe(reader, "What?", torch.rand(3, 1000, 3000), Generation(16, 0.0, 0))
    _, height, width, channels = seen[0].shape
    assert channels == 3 and 0.98 * MOST_PIXELS < height * width <= 1.01 * MOST_PIXELS
    assert width / height == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("lacks", ["the place in its prompt", "the vision tower"])
def test_a_model_that_reads_no_pictures_is_refused(reader, monkeypatch, lacks):
    """As Qwen-Image's prompt, into which core's Generate Text puts no image; as Gemma 3 without vision."""
    if lacks == "the vision tower":
        monkeypatch.delattr(type(reader.cond_stage_model.qwen3vl_8b.transformer).__mro__[1], "preprocess_embed")
    else:
        monkeypatch.setattr(reader.tokenizer, "llama_template_images", reader.tokenizer.llama_template)
    with pytest.raises(ValueError, match="reads no pictures"):
        execute(vision_clip=reader)
