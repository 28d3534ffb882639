"""The one place that stands in for the host's look-up of embeddings, with the answers of older and later hosts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import save_file

pytestmark = pytest.mark.every_comfyui

WIDTH = 768


@pytest.fixture
def tokenizer(sd1) -> Any:
    return sd1[1].tokenizer.clip_l


@pytest.fixture
def files(embeddings):
    save_file({"emb_params": torch.ones(2, WIDTH)}, embeddings / "in-folder.safetensors")
    save_file({"emb_params": torch.ones(2, 1024)}, embeddings / "wide.safetensors")
    yield
    for name in ("in-folder", "wide"):
        (embeddings / f"{name}.safetensors").unlink()


def vectors_in(tokenizer: Any, prompt: str) -> list[float]:
    """First component of each vector in the prompt's row."""
    row = tokenizer.tokenize_with_weights(prompt)[0]
    return [float(token[0]) for token, _ in row if isinstance(token, torch.Tensor)]


def test_our_vectors_come_before_a_file_of_the_same_name(tokenizer, files):
    from core_personalization.nodes.host.prompts.tokenizer import with_embeddings

    prompt = "a embedding:in-folder, embedding:ours hat"
    known = with_embeddings(tokenizer, {"ours": torch.full((1, WIDTH), 2.0)})
    assert vectors_in(known, prompt) == [1, 1, 2]
    known = with_embeddings(tokenizer, {"ours": torch.full((1, WIDTH), 2.0), "in-folder": torch.full((1, WIDTH), 3.0)})
    assert vectors_in(known, prompt) == [3, 2]


def test_without_ours_it_reads_a_prompt_as_the_host_does(tokenizer, files):
    from core_personalization.nodes.host.prompts.tokenizer import with_embeddings

    prompt = "a (red:1.2) embedding:in-folder, hat embedding:in-folder[0:1] and more"
    met: list[str] = []
    ours, theirs = (t.tokenize_with_weights(prompt) for t in (with_embeddings(tokenizer, met=met), tokenizer))
    assert [weight for _, weight in ours[0]] == [weight for _, weight in theirs[0]]
    assert all(
        torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for (a, _), (b, _) in zip(ours[0], theirs[0], strict=True)
    )
    assert met == ["in-folder", "in-folder"]


def test_the_host_tokenizer_itself_stays_as_it_is(tokenizer, files):
    from core_personalization.nodes.host.prompts.tokenizer import with_embeddings

    before = dict(vars(tokenizer))
    with_embeddings(tokenizer, {"ours": torch.ones(1, WIDTH)}).tokenize_with_weights("embedding:ours")
    assert vars(tokenizer) == before


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("a embedding:nowhere hat", "embedding:nowhere does not exist in the embeddings folder; check the name."),
        ("a embedding:wide hat", "embedding:wide has width 1024, this model needs 768"),
        ("a embedding: hat", "embedding:hat does not exist"),
        ("a hat embedding: ", "'embedding:' has no name after it"),
    ],
)
def test_every_reader_of_prompts_refuses_in_the_same_words(sd1, files, prompt, problem):
    from core_personalization.nodes.host.prompts.prompt_reading import read_prompt
    from core_personalization.nodes.host.prompts.prompt_rows import TemplateRows, naming

    with pytest.raises(ValueError) as read:
        read_prompt(sd1[1], prompt, "prompt")
    with pytest.raises(ValueError) as row, naming("prompt"):
        TemplateRows(sd1[1], {}).row(prompt)
    assert str(read.value) == str(row.value)
    assert str(read.value).startswith(f"prompt: {problem}")


@pytest.mark.parametrize(
    ("answer", "told"), [((None, ""), "2 values"), ((None, "", "", 0), "4 values"), ([None, ""], "list")]
)
def test_another_form_of_answer_is_named(tokenizer, monkeypatch, answer, told):
    from comfy.sd1_clip import SDTokenizer
    from core_personalization.nodes.host.prompts.tokenizer import with_embeddings

    monkeypatch.setattr(SDTokenizer, "_try_get_embedding", lambda *_: answer)
    with pytest.raises(RuntimeError, match=f"answers with {told} .* Update CoRe Personalization"):
        with_embeddings(tokenizer)
