"""Methods beside CoRe and AttnDreamBooth: they start as published, train on every family, and go on bit for bit."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.recipes.cross_initialization import CrossInitialization
from core_personalization.nodes.labels import SYMBOLS
from families.embedding import embedding_run, execute, host_conditioning
from families.load import load_family
from families.stopping import cancel_after
from oracles import text

METHODS = ["CoRe + DTI", "Cross Initialization", "Directional Textual Inversion", "TI + ViCo's regularizer"]


GIVEN = {"super_category": "teddy bear", "learning_rate": 0.01, "steps": 3, "batch_size": 1}


@pytest.mark.parametrize("method", METHODS)
def test_what_it_learns_is_what_core_reads_from_its_file(family, embeddings, method):
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    concept, token, losses, *_ = execute(family, concept_name="learned", method=method, **GIVEN)
    row = PromptRows(family[1], "teddy bear").concept("a (red:1.3) {}, in the jungle")
    trained = HostTextEncoder(family[1]).encode([row], concept.vectors).context
    drawn = host_conditioning(family[1], f"a (red:1.3) {token}, in the jungle")
    assert (trained - drawn).abs().max() < 1e-4 * drawn.abs().max()
    assert all(value == value for value in losses["loss"])
    assert {name for name in losses if "." not in name} <= SYMBOLS.keys() | {"loss", "steady_loss"}


@pytest.mark.parametrize("method", METHODS)
def test_it_is_cancelled_and_goes_on_to_the_same_numbers(sd1, embeddings, monkeypatch, method):
    from core_personalization.nodes.host.run_control import Cancelled

    whole, _, losses, *_ = execute(sd1, concept_name="whole", method=method, **GIVEN)
    with monkeypatch.context() as patch:
        cancel_after(patch, 1)
        with pytest.raises(Cancelled):
            execute(sd1, concept_name="stopped", method=method, **GIVEN)
    resumed, _, again, *_ = execute(sd1, concept_name="stopped", method=method, **GIVEN)
    assert losses == again
    assert torch.equal(resumed.vectors["clip_l"], whole.vectors["clip_l"])


@pytest.mark.parametrize("method", ["Directional Textual Inversion"])
def test_the_norm_is_the_vocabularys_mean_and_stays(family, method):
    run = embedding_run(family, method=method, steps=2, vectors=2, learning_rate=0.1)
    run.train()
    for name, v in run.embedding.snapshot().items():
        vocabulary = run.encoder._vocabulary(name)
        mean = torch.stack([row.norm() for row in vocabulary.float() if row.any()]).mean()
        torch.testing.assert_close(v.norm(dim=-1), mean.expand(2), rtol=1e-4, atol=0)
        assert (torch.cosine_similarity(v, run.start[name]) < 0.999).all()


def test_rows_of_zeros_do_not_count_in_the_vocabularys_mean():
    models = load_family("sd1")  # one of its own: the rows are the model's
    run = embedding_run(models, method="Directional Textual Inversion", steps=1)
    vocabulary, before = run.encoder._vocabulary("clip_l"), run.encoder.mean_norms()["clip_l"]
    vocabulary.data[::2] = 0
    torch.testing.assert_close(run.encoder.mean_norms()["clip_l"], vocabulary[1::2].float().norm(dim=-1).mean())
    assert run.encoder.mean_norms()["clip_l"] > 0.9 * before


def test_cross_initialization_starts_from_what_transformers_make_of_the_words():
    models, oracle = load_family("sd2"), text.load_oracle("sd2")
    run = embedding_run(models, method="Cross Initialization", super_category="teddy bear", vectors=2)
    row = run.checked.rows.text("teddy bear")
    output, _ = oracle.encode({"h": list(row.tokens["clip_h"])}, {})
    torch.testing.assert_close(run.start["clip_h"], output[0, 1:3].detach(), rtol=1e-4, atol=1e-4)
    recipe = run.loop.recipe
    assert isinstance(recipe, CrossInitialization)
    assert torch.equal(recipe.start["clip_h"].cpu(), run.start["clip_h"])


def test_more_words_than_vectors_are_averaged_and_fewer_repeated(sd1):
    one, two, four = (
        embedding_run(sd1, method="Cross Initialization", super_category="teddy bear", vectors=count).start["clip_l"]
        for count in (1, 2, 4)
    )
    torch.testing.assert_close(one[0], two.mean(0))
    assert torch.equal(four, two.repeat_interleave(2, 0))


def test_the_direction_alone_is_learned_with_cores_terms(sd1):
    """CoRe + DTI has CoRe's terms, and does not rescale what has one norm in any case."""
    run = embedding_run(sd1, method="CoRe + DTI", steps=2, rescale_from=0.0, rescale_to=1.0)
    run.train()
    assert {"diffusion", "context_embedding", "context_attention"} <= run.losses.keys()
    assert run.loop.recipe.config.rescale_to == 0


def test_a_concept_that_is_trained_further_keeps_its_own_norm(sd1, embeddings):
    concept, *_ = execute(sd1, concept_name="first", method="Textual Inversion", learning_rate=0.1)
    further, *_ = execute(sd1, concept_name="second", method="Directional Textual Inversion", start_from=concept)
    before, after = (each.vectors["clip_l"] for each in (concept, further))
    torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))
    assert not torch.equal(after, before)
