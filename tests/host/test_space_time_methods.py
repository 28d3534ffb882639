"""XTI and NeTI as a user has them: trained, applied to a MODEL, drawn by core's samplers, saved and loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import probing
from families.applying import SAMPLING, TEMPLATE, apply, draw, read_by_layers
from families.embedding import embedding_run, execute, host_conditioning
from families.load import load_family
from families.stopping import cancel_after
from oracles import text

METHODS = ["XTI (P+)", "NeTI"]
NETI_FIRST = [pytest.param("XTI (P+)", marks=pytest.mark.long), "NeTI"]
"""For what all families go through: NeTI has all that XTI has, and XTI goes through it with one of them elsewhere."""
GIVEN = {"super_category": "dog", "learning_rate": 0.05, "steps": 2, "batch_size": 2}


def oracle_contexts(name, oracle, row, vectors, bypass) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' context with a vector [width] of each encoder in the concept's place, and with NeTI's bypass."""
    place, contexts = row.span.start, []
    for encoder, model in oracle.models.items():
        host = f"clip_{encoder}"
        ids = torch.tensor([[token if isinstance(token, int) else 0 for token in row.tokens[host]]])
        hook = model.text_model.embeddings.token_embedding.register_forward_hook(
            lambda _, inputs, output, v=vectors[host]: output.index_put((torch.tensor(0), torch.tensor(place)), v)
        )
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[-1 if name == "sd1" else -2]
        hook.remove()
        both = [hidden, hidden.clone()]
        if bypass:
            b = bypass[host]
            both[1][0, place] += 0.2 * b / b.norm() * hidden[0, place].norm()
        norm = model.text_model.final_layer_norm if name != "sdxl" else torch.nn.Identity()
        contexts.append([norm(each) for each in both])
    return tuple(torch.cat(parts, dim=-1) for parts in zip(*contexts, strict=True))


@pytest.mark.parametrize("method", NETI_FIRST)
@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_every_layer_of_cores_sampling_reads_what_transformers_make_of_it(embeddings, name, method):
    models, oracle = load_family(name), text.load_oracle(name)
    concept, *_ = execute(models, concept_name="layered", method=method, **GIVEN)
    template = "a photo of a {} in the jungle"
    applied = apply(models, concept, template)
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    row = PromptRows(models[1], "dog").concept(template)
    levels = models[0].get_model_object("model_sampling")
    seen = read_by_layers(models, applied)
    from core_personalization.nodes.host.models.unet_layout import attention_blocks, cross_attention_layers

    layers = cross_attention_layers(models[0].model.diffusion_model)
    blocks = attention_blocks(models[0].model.diffusion_model)
    assert len(seen) == 2 * len(layers)
    import comfy.samplers

    sigmas = comfy.samplers.calculate_sigmas(levels, "normal", 2)
    for call, sigma in enumerate(sigmas[:-1]):
        t = levels.timestep(sigma).reshape(1).float()
        with torch.no_grad():
            at = concept.space_time.at(t)
        for number, layer in enumerate(layers):
            block = blocks.index(layer[:2])
            v = {encoder: each[0, block, 0] for encoder, each in at.v.items()}
            bypass = at.bypass and {encoder: each[0, block, 0] for encoder, each in at.bypass.items()}
            with torch.no_grad():
                contexts = oracle_contexts(name, oracle, row, v, bypass)
            for found, wanted in zip(seen[call * len(layers) + number], contexts, strict=True):
                apart = (found - wanted).abs().amax((1, 2)) / wanted.abs().max()
                assert sorted((apart < 1e-4).tolist()) == [False, True], (call, layer)
    assert (seen[0][0] - seen[-1][0]).abs().max() > 1e-3


@pytest.mark.parametrize("method", NETI_FIRST)
def test_it_draws_from_its_file_as_from_the_run(family, embeddings, method):
    from families.concepts import load, save

    concept, token, losses, *_ = execute(family, concept_name="drawn", method=method, **GIVEN)
    expected = draw(family, apply(family, concept))
    loaded = probing.Loaded("", *family[:2])
    mean = probing.sample(loaded, family[0], SAMPLING, probing.encode(loaded, TEMPLATE.format(token)))
    assert not torch.allclose(expected, mean, atol=1e-3)
    again, *_ = execute(family, concept_name="drawn", method=method, **{**GIVEN, "overwrite": False})
    assert torch.equal(draw(family, apply(family, again)), expected)
    _, _, from_embedding, *_ = load(family, "embeddings/drawn.safetensors")
    assert torch.equal(draw(family, apply(family, from_embedding)), expected)
    path = save(concept, None)
    concept.path.unlink()
    _, _, from_bundle, *_ = load(family, f"loras/{path.name}")
    assert torch.equal(draw(family, apply(family, from_bundle)), expected)
    assert losses["loss"] and from_bundle.path.is_file()


@pytest.mark.parametrize("method", METHODS)
def test_a_preview_is_what_core_draws(sd1, embeddings, method):
    import comfy.sample
    import comfy.samplers
    from core_personalization.core_ops.diffusion_process import DDIMConfig, ddim_sample
    from core_personalization.nodes.host.models.module_copy import autograd_mode

    run = embedding_run(sd1, method=method, **GIVEN)
    run.train()
    row = run.checked.rows.concept(TEMPLATE)
    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    with autograd_mode(), torch.no_grad():
        negative = run.encoder.encode([run.checked.rows.text("")], {})
        own = ddim_sample(
            run.denoiser, lambda t: run.embedding.text(run.encoder, [row], t), negative, noise, DDIMConfig(steps=3)
        )
    concept = replace(run.checked.concept, vectors=run.embedding.snapshot(), space_time=run.embedding)
    model, positive = apply(sd1, concept)
    sampling = model.get_model_object("model_sampling")
    levels = sampling.sigmas[torch.linspace(999, 0, 4).round().long()]
    with torch.inference_mode():
        drawn = comfy.sample.sample_custom(
            model, noise, 3.0, comfy.samplers.sampler_object("euler"), levels, positive,
            probing.encode(probing.Loaded("", *sd1[:2]), ""), torch.zeros_like(noise),
        )  # fmt: skip
        expected = model.model.process_latent_in(drawn) / (1 + levels[-1] ** 2).sqrt()
    assert float((own - expected).abs().max() / expected.abs().max()) < 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_it_is_cancelled_and_goes_on_to_the_same_numbers(sd1, embeddings, monkeypatch, method):
    from core_personalization.nodes.host.run_control import Cancelled

    given = {**GIVEN, "steps": 3, "batch_size": 1}
    whole, _, losses, *_ = execute(sd1, concept_name="whole", method=method, **given)
    with monkeypatch.context() as patch:
        cancel_after(patch, 1)
        with pytest.raises(Cancelled):
            execute(sd1, concept_name="stopped", method=method, **given)
    resumed, _, again, *_ = execute(sd1, concept_name="stopped", method=method, **given)
    assert losses == again
    for name, tensor in whole.space_time.tensors().items():
        assert torch.equal(resumed.space_time.tensors()[name], tensor), name


@pytest.mark.parametrize("method", NETI_FIRST)
def test_core_reads_the_mean_where_the_file_is_named_in_a_prompt(family, embeddings, method):
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    concept, token, *_ = execute(family, concept_name="mean", method=method, **GIVEN)
    row = PromptRows(family[1], "dog").concept(TEMPLATE)
    mean = HostTextEncoder(family[1]).encode([row], concept.vectors).context
    drawn = host_conditioning(family[1], TEMPLATE.format(token))
    assert (mean - drawn).abs().max() < 1e-4 * drawn.abs().max()


def test_it_says_that_only_apply_concept_draws_it(sd1, embeddings):
    from core_personalization.nodes.concept import BY_LAYER
    from core_personalization.nodes.embedding.train_embedding import TrainEmbedding
    from families.embedding import FEW_STEPS, SETTINGS, pictures

    values = {**SETTINGS, **FEW_STEPS, **GIVEN, "concept_name": "said", "method": "XTI (P+)"}
    for overwrite in (True, False):
        with torch.inference_mode():
            sockets = *([each] for each in sd1), pictures()
            shown = TrainEmbedding.execute(
                *sockets, **{name: [v] for name, v in {**values, "overwrite": overwrite}.items()}
            )
        assert BY_LAYER in str(shown.ui)


@pytest.mark.parametrize("sampling", [{"cfg": 1.0}, {"batch": 2}, {"sampler": "dpm_2"}, {"sampler": "dpmpp_sde"}])
def test_batches_no_guidance_and_samplers_that_look_between_steps(sd1, embeddings, sampling):
    concept, *_ = execute(sd1, concept_name="sampled", method="NeTI", **GIVEN)
    chosen, applied = probing.Sampling(**sampling), apply(sd1, concept)
    seen = read_by_layers(sd1, applied, chosen)
    assert all(len(keys) == chosen.batch * (1 if chosen.cfg == 1 else 2) for keys, _ in seen)
    drawn = draw(sd1, applied, chosen)
    assert torch.equal(drawn, draw(sd1, applied, chosen)) and drawn.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_given_on_is_what_the_file_holds_where_weights_are_averaged(sd1, embeddings, method):
    from core_personalization.nodes.files.concept_files import read_embedding
    from core_personalization.nodes.host.models.text_encoder import encoder_names

    concept, *_ = execute(sd1, concept_name="averaged", method=method, ema_decay=0.5, **{**GIVEN, "steps": 3})
    _, stored = read_embedding(concept.path, encoder_names(sd1[1]))
    given = concept.space_time.tensors()
    assert given.keys() == stored.tensors().keys()
    assert all(torch.equal(given[name], tensor) for name, tensor in stored.tensors().items())


def test_a_longer_negative_prompt_changes_nothing_of_what_the_layers_read(sd1, embeddings):
    """ComfyUI repeats the shorter text to the longer one's length, and draws both as one batch."""
    concept, *_ = execute(sd1, concept_name="long", method="NeTI", **GIVEN)
    applied, loaded = apply(sd1, concept), probing.Loaded("", *sd1[:2])
    negative = probing.encode(loaded, "blurry " * 100)
    assert negative[0][0].shape[1] == 154
    seen = read_by_layers(sd1, applied, negative=negative)
    plain = read_by_layers(sd1, applied)
    for long, short in zip(seen, plain, strict=True):
        for both, one in zip(long, short, strict=True):
            (own,) = (row for row in both if torch.equal(row[:77], row[77:]))
            assert any(torch.allclose(own[:77], row, atol=1e-4) for row in one)


@pytest.mark.parametrize("written", ("embedding:whole", "(embedding:whole:1.2)", "embedding:whole."))
def test_a_prompt_may_name_the_concept_and_not_another_that_begins_as_it(sd1, embeddings, written):
    concept, *_ = execute(sd1, method="XTI (P+)", concept_name="whole", **GIVEN)
    text = apply(sd1, concept, f"a photo of {written}")[1][0][0]
    assert torch.equal(text, apply(sd1, concept, f"a photo of {written.replace('embedding:whole', '{}')}")[1][0][0])
    for other in ("embedding:whole-2", "embedding:whole.v2", "embedding:whole/whole-step5", "embedding:wholesome"):
        with pytest.raises(ValueError, match=r"template: .* has \{\} 0 times"):
            apply(sd1, concept, f"a photo of {other}")


def test_areas_and_two_concepts_in_one_picture(sd1, embeddings):
    from nodes import ConditioningCombine, ConditioningSetArea

    one, *_ = execute(sd1, concept_name="one", method="XTI (P+)", **GIVEN)
    two, *_ = execute(sd1, concept_name="two", method="NeTI", **GIVEN)
    model, left = apply(sd1, one)
    both, right = apply((model, sd1[1]), two)
    with torch.inference_mode():
        left, right = (ConditioningSetArea().append(each, 48, 64, x, 0, 1.0)[0] for each, x in ((left, 0), (right, 48)))
        combined = ConditioningCombine().combine(left, right)[0]
    drawn = draw(sd1, (both, combined))
    only_one = draw(sd1, (model, left))
    assert drawn.isfinite().all() and not torch.allclose(drawn, only_one)
    plain = probing.encode(probing.Loaded("", *sd1[:2]), "a dog")
    with torch.inference_mode():
        first = ConditioningCombine().combine(left, plain)[0]
    assert not torch.allclose(draw(sd1, (model, first)), only_one)


def test_another_conditioning_or_a_changed_one_is_refused(sd1, embeddings):
    from nodes import ConditioningAverage, ConditioningConcat

    concept, *_ = execute(sd1, concept_name="refused", method="XTI (P+)", **GIVEN)
    model, conditioning = apply(sd1, concept)
    plain = probing.encode(probing.Loaded("", *sd1[:2]), "a dog on grass")
    with pytest.raises(ValueError, match="conditioning: this sampling does not use that of Apply Concept"):
        draw(sd1, (model, plain))
    with torch.inference_mode():
        averaged = ConditioningAverage().addWeighted(conditioning, plain, 0.5)[0]
        longer = ConditioningConcat().concat(conditioning, plain)[0]
    with pytest.raises(ValueError, match="another node changed the text"):
        draw(sd1, (model, averaged))
    assert not torch.allclose(draw(sd1, (model, longer)), draw(sd1, (model, conditioning)))


def test_the_hosts_models_stay_as_they_were(sd1, embeddings):
    from families.hashing import weights_hash

    before = weights_hash(sd1)
    concept, *_ = execute(sd1, concept_name="stays", method="NeTI", **GIVEN)
    plain = draw(sd1, (sd1[0], probing.encode(probing.Loaded("", *sd1[:2]), "a dog")))
    draw(sd1, apply(sd1, concept))
    assert torch.equal(draw(sd1, (sd1[0], probing.encode(probing.Loaded("", *sd1[:2]), "a dog"))), plain)
    assert weights_hash(sd1) == before


def test_a_model_of_another_family_or_number_of_layers_is_refused(sd1, embeddings):
    concept, *_ = execute(sd1, concept_name="other", method="XTI (P+)", **GIVEN)
    with pytest.raises(ValueError, match="is an embedding for clip_l"):
        apply(load_family("sd2"), concept)
    fewer = type(concept.space_time)({name: each[:-1] for name, each in concept.space_time.by_layer.items()})
    with pytest.raises(ValueError, match="concept: it was learned for"):
        apply(sd1, replace(concept, space_time=fewer))


def test_neti_begins_anew_and_xti_goes_on_from_a_concept(sd1, embeddings):
    concept, *_ = execute(sd1, concept_name="first", method="Textual Inversion", **GIVEN)
    with pytest.raises(ValueError, match="start_from: NeTI begins with a new network"):
        execute(sd1, concept_name="second", method="NeTI", start_from=concept, **GIVEN)
    further, *_ = execute(
        sd1, concept_name="third", method="XTI (P+)", start_from=concept, **{**GIVEN, "learning_rate": 1e-7}
    )
    v = further.space_time.by_layer["clip_l"]
    torch.testing.assert_close(v, concept.vectors["clip_l"].expand_as(v), rtol=0, atol=1e-4)


def test_any_other_concept_is_applied_as_text_encode_does(sd1, embeddings):
    concept, token, *_ = execute(sd1, concept_name="plain", method="Textual Inversion", **GIVEN)
    model, conditioning = apply(sd1, concept, f"a {token} on grass")
    assert model is sd1[0]
    assert torch.equal(conditioning[0][0], host_conditioning(sd1[1], f"a {token} on grass"))


@pytest.mark.parametrize("method", METHODS)
def test_a_prompt_of_another_node_has_its_name(sd1, embeddings, method):
    concept, token, *_ = execute(sd1, concept_name="named", method=method, **GIVEN)
    braces, named = (draw(sd1, apply(sd1, concept, f"a {word} on grass")) for word in ("{}", token))
    assert torch.equal(braces, named)
    with pytest.raises(ValueError, match="template"):
        apply(sd1, concept, "a dog on grass")


def test_a_finetune_that_trains_its_word_along_leaves_a_plain_one_also_when_it_is_loaded(sd1, embeddings):
    from families.finetuning import execute as finetune

    concept, *_ = execute(sd1, concept_name="by-layer", method="XTI (P+)", **GIVEN)
    given = {"name": "along", "form": "LoRA", "train_embedding": True, "steps": 1}
    for overwrite in (True, False):  # trained, then loaded
        *_, refined, _, _, _, _ = finetune(sd1, concept, **given, overwrite=overwrite)
        assert refined.space_time is None and refined.phrase == "embedding:along"
