"""Whatever touches {} in a template, ComfyUI finds the embedding, and reads every other word as it stands."""

from __future__ import annotations

import itertools

import pytest
import torch
from core_personalization.core_ops.prompts.prompt_templates import fill
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

pytestmark = pytest.mark.every_comfyui

WORD = "cat"
NUMBERS = ("2024", "1e5", "inf")
"""To Python, which ComfyUI asks."""
NAMES = ("my-cat", *NUMBERS)
PIECES = (
    *("a", "photo of", "1girl", "solo", "in the snow", " ", " ", ",", ".", "'s", '"', "!", "-", "_", "|", "\n"),
    *("(", ")", "(", ")", ":1.2)", ":", "\\(", "\\)", "\\", "[", "]", "<", ">", "{", "}", "{}x", "é", "狗", "😀"),
)
around = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@pytest.fixture(scope="module")
def tokenizer(sd1, embeddings):
    for name in NAMES:
        save_file({"emb_params": torch.full((2, 768), 7.0)}, embeddings / f"{name}.safetensors")
    yield sd1[1].tokenizer.clip_l
    for name in NAMES:
        (embeddings / f"{name}.safetensors").unlink()


def tokens(tokenizer, prompt: str) -> list[tuple[int | str, float]]:
    """Of the host's own rows: vocabulary ids, a name for the vectors, and weights."""
    rows = tokenizer.tokenize_with_weights(prompt)
    return [
        ("vector" if isinstance(token, torch.Tensor) else token, round(weight, 6))
        for token, weight in itertools.chain(*rows)
    ]


def expected(tokenizer, before: str, after: str) -> list[tuple[int | str, float]]:
    """The text's own, with a space on either side of two vectors."""
    word = tokens(tokenizer, WORD)[1][0]
    parts = [
        [each] if each[0] != word else [("vector", each[1])] * 2
        for each in tokens(tokenizer, f"{before} {WORD} {after}")
    ]
    return list(itertools.chain(*parts))[:-1]  # there is one place less to pad


@settings(max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=around, after=around)
@example("", ",in the snow")
@example("1girl,", ",solo")
@example("", ".")
@example("the ", "'s house")
@example('"', '"')
@example("(", ":1.2)")
@example("\\(", "\\)")
@example("", "{")
def test_the_host_finds_the_concept_once_and_every_other_word(tokenizer, before, after):
    template = f"{before}{{}}{after}"
    assume(template.count("{}") == 1)
    assert tokens(tokenizer, fill(template, ["embedding:my-cat"])) == expected(tokenizer, before, after)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "template", ["({})", "((a red {}))", "(a {}, b) (c)", "({}:1.2) (d)", "(a \\({}\\))", "a {} b", "(a (b) {} )"]
)
def test_a_name_that_is_a_number_is_no_weight(tokenizer, template, name):
    before, after = template.split("{}")
    assert tokens(tokenizer, fill(template, [f"embedding:{name}"])) == expected(tokenizer, before, after)


@settings(max_examples=100, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=around, after=around)
def test_a_training_reads_what_the_finished_prompt_says(sd1, tokenizer, before, after):
    from core_personalization.core_ops.prompts.token_rows import ConceptSlot
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    template = f"{before}{{}}{after}"
    assume(template.count("{}") == 1)
    row = PromptRows(sd1[1], "dog", vectors=2).pair(template).concept
    trained = [("vector" if isinstance(token, ConceptSlot) else token) for token in row.tokens["clip_l"]]
    assert trained == [token for token, _ in tokens(tokenizer, fill(template, ["embedding:my-cat"]))]
    assert [trained[place] for place in row.span] == ["vector", "vector"]


@pytest.mark.parametrize(("text", "vectors"), [("very " * 90, 1), ("very " * 20, 64)])
def test_no_message_shows_what_stands_for_the_concept_inside(sd1, text, vectors):
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    with pytest.raises(ValueError, match="rows of 77 tokens; shorten it") as raised:
        PromptRows(sd1[1], "dog", vectors).pair("a {}, " + text)
    assert "core_" not in str(raised.value)
