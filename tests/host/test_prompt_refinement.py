"""The node "CoRe Test-Time Optimize" on real ComfyUI objects: small random-weight models of all four families."""

from __future__ import annotations

import json

import pytest
import torch
from core_personalization.core_ops.prompts.prompt_templates import prompt_set
from core_personalization.nodes.files.safe_files import read
from families.build import FAMILIES
from families.hashing import weights_hash
from families.load import load_family
from families.refining import SETTINGS, concept, core_encode, execute, measured


@pytest.mark.parametrize("family", list(FAMILIES))
def test_no_step_is_cores_encoding_and_steps_change_it_alone(family, embeddings):
    models = load_family(family, embedding_directory=str(embeddings))
    given = concept(models, f"plain-{family}", vectors=2)
    before = weights_hash(models), given.path.read_bytes()
    prompt = "a (red:1.3) {}, in the ((jungle)) with a \\(real\\) hat"
    conditioning, _, _ = execute(models, concept=given, prompt=prompt, steps=0)
    expected = core_encode(models[1], prompt.replace("{}", given.token))
    assert same_bits(conditioning, expected)
    changed, report, _ = execute(models, concept=given, prompt=prompt, steps=2)
    assert not same_bits(changed, expected)
    assert all(after < before for before, after in measured(report)[0].values())
    assert before == (weights_hash(models), given.path.read_bytes())


def same_bits(conditioning, expected) -> bool:
    ((tensor, extra),), ((expected_tensor, expected_extra),) = conditioning, expected
    assert extra.keys() == expected_extra.keys() == {"pooled_output"}
    return torch.equal(tensor, expected_tensor) and torch.equal(extra["pooled_output"], expected_extra["pooled_output"])


def both_terms_fall(models, prompt: str, **more) -> None:
    """Published λ, rate and steps; on the noise of the run, and on noise that it never saw."""
    given = concept(models, "overfitted")
    inputs = {"prompt": prompt, "batch_size": 2, "width": 64, "height": 64, **more}
    _, report, refined = execute(models, concept=given, save_as="held", overwrite=True, **inputs)
    assert all(after < before for before, after in measured(report)[0].values()), report
    fresh = [measured(execute(models, concept=some, steps=0, seed=77, **inputs)[1])[0] for some in (given, refined)]
    assert all(fresh[1][term][0] < fresh[0][term][0] for term in ("L_emb", "L_attn")), (prompt, fresh)


def held_prompts() -> tuple[str, ...]:
    """In no prompt set that one trains with."""
    return prompt_set("evaluation_animate")


@pytest.mark.parametrize("number", [0, 10, 18])
def test_both_terms_fall_for_held_prompts(sd1, number):
    both_terms_fall(sd1, held_prompts()[number])


@pytest.mark.parametrize("family", list(FAMILIES))
def test_they_fall_with_shared_queries_too_and_the_result_is_nearly_the_same(family, embeddings):
    models = load_family(family, embedding_directory=str(embeddings))
    both_terms_fall(models, held_prompts()[10], shared_queries=True)
    given = concept(models, f"shared-{family}")
    inputs = {"prompt": held_prompts()[10], "batch_size": 2, "width": 64, "height": 64, "overwrite": True}
    published, shared = (
        measured(execute(models, concept=given, shared_queries=on, **inputs)[1])[0] for on in (False, True)
    )
    for term, (before, after) in published.items():
        assert shared[term][0] == pytest.approx(before)
        assert before - shared[term][1] == pytest.approx(before - after, rel=0.5), term


@pytest.mark.long
def test_both_terms_fall_for_each_of_twenty_held_prompts(sd1):
    prompts = held_prompts()
    assert len(prompts) == 20
    for prompt in prompts:
        both_terms_fall(sd1, prompt)


def test_the_output_is_cores_encoding_with_the_saved_embedding(sd1):
    """Two concepts, one of them frozen, and a third embedding that the prompt names."""
    first, second, named = (concept(sd1, name, seed) for seed, name in enumerate(("first", "second", "named")))
    before = {given.name: given.path.read_bytes() for given in (first, second, named)}
    inputs = {"concept": first, "concept_2": second, "steps": 2, "overwrite": True}
    inputs["prompt"] = f"a ({{}}:1.2) beside a {{2}}, with {named.token}"
    kept, report, refined = execute(sd1, **inputs, optimize_2=False, save_as="refined-1")
    assert refined.name == "refined-1" and refined.path.is_file()
    expected = core_encode(sd1[1], "a (embedding:refined-1:1.2) beside a embedding:second, with embedding:named")
    assert same_bits(kept, expected)
    assert not torch.equal(refined.vectors["clip_l"], first.vectors["clip_l"])
    assert "compared with **a (dog:1.2) beside a dog, with embedding:named**" in report
    assert [label for label, *_ in measured(report)[1]] == [
        *("(start of text)", "a", "beside", "a", ",", "with", "embedding:named", "(end of text)")
    ]
    both, _, _ = execute(sd1, **inputs, save_as="refined-2")
    assert not same_bits(
        both, core_encode(sd1[1], "a (embedding:refined-2:1.2) beside a embedding:second, with embedding:named")
    )
    assert before == {given.name: given.path.read_bytes() for given in (first, second, named)}


def test_the_saved_file_says_what_it_was_refined_for(sd1):
    given = concept(sd1, "carded", with_category=True)
    conditioning, _, refined = execute(sd1, concept=given, steps=1, save_as="carded-jungle", overwrite=True)
    tensors, metadata = read(refined.path)
    assert torch.equal(tensors["emb_params"], refined.vectors["clip_l"])
    assert metadata["modelspec.trigger_phrase"] == refined.phrase == "embedding:carded-jungle dog"
    assert json.loads(metadata["core_personalization.settings"])["prompt"] == SETTINGS["prompt"]
    assert json.loads(metadata["core_personalization.refined_from"]) == "carded"
    assert same_bits(conditioning, core_encode(sd1[1], "a embedding:carded-jungle dog in the jungle"))
    with pytest.raises(ValueError, match=r"save_as: .* exists already"):
        execute(sd1, concept=given, save_as="carded-jungle")


def test_without_a_name_the_refined_concept_stops_what_uses_it(sd1):
    from comfy_execution.graph_utils import ExecutionBlocker

    refined = execute(sd1, concept=concept(sd1, "unsaved"), steps=0)[2]
    assert isinstance(refined, ExecutionBlocker) and "save_as" in refined.message


def test_clip_skip_counts(sd1):
    model, clip, vae = sd1
    skipped = clip.clone()
    skipped.clip_layer(-2)
    given = concept(sd1, "skipped")
    conditioning, _, _ = execute((model, skipped, vae), concept=given, steps=0)
    assert same_bits(conditioning, core_encode(skipped, "a embedding:skipped in the jungle"))
    assert not same_bits(conditioning, core_encode(clip, "a embedding:skipped in the jungle"))


def test_comfyui_is_asked_for_room_beside_other_loaded_models(sd1, monkeypatch):
    import comfy.model_management

    asked, free = [], comfy.model_management.free_memory
    monkeypatch.setattr(
        comfy.model_management,
        "free_memory",
        lambda size, *more, **named: (asked.append(size), free(size, *more, **named))[1],
    )
    execute(sd1, concept=concept(sd1, "roomy"), steps=1)
    assert 3 * sd1[0].model_size() in asked


def test_the_same_seed_gives_the_same_bits(sd1):
    given = concept(sd1, "seeded")
    first, again, other = (execute(sd1, concept=given, steps=2, seed=seed)[0] for seed in (1, 1, 2))
    assert same_bits(first, again)
    assert not same_bits(first, other)


def test_a_finetuned_model_is_the_one_that_is_looked_at(sd1):
    model, clip, vae = sd1
    key = next(name for name in model.model.state_dict() if name.endswith("attn2.to_k.weight"))
    patched = model.clone()
    with torch.inference_mode():
        patched.add_patches({key: (torch.randn_like(model.model.state_dict()[key]),)}, 1.0)
    given = concept(sd1, "looked-at")
    plain, changed = (measured(execute(m, concept=given, steps=0)[1])[0] for m in (sd1, (patched, clip, vae)))
    assert plain["L_emb"] == changed["L_emb"]
    assert plain["L_attn"] != changed["L_attn"]


@pytest.mark.parametrize("weighting", ["fixed", "balanced"])
def test_a_trust_limit_holds_for_every_vector(sd1, weighting):
    given = concept(sd1, "limited", vectors=2)
    settings = {"steps": 3, "learning_rate": 5e-3, "trust_limit": 0.05, "weighting": weighting}
    _, report, refined = execute(sd1, concept=given, **settings, save_as="limited-refined", overwrite=True)
    start, end = given.vectors["clip_l"], refined.vectors["clip_l"]
    moved = (end - start).norm(dim=-1) / start.norm(dim=-1)
    assert (moved <= 0.05 * (1 + 1e-5)).all() and (moved > 0.01).all()
    change, norm = (end - start).norm(), start.norm()
    assert f"‖Δv‖ = {change:.4g}, {change / norm:.1%} of ‖v‖ = {norm:.4g}" in report


def test_a_concept_that_is_its_super_category_stays_as_it_is(sd1):
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    words = PromptRows(sd1[1], "dog").words("dog")
    given = concept(sd1, "dog-itself")
    with torch.inference_mode():
        given.vectors["clip_l"].copy_(HostTextEncoder(sd1[1]).word_embeddings({"clip_l": words[0]})["clip_l"])
    conditioning, report, _ = execute(sd1, concept=given, steps=2)
    assert "stays as it was" in report
    torch.testing.assert_close(conditioning[0][0], core_encode(sd1[1], "a dog in the jungle")[0][0])


def test_empty_latents_become_noise_and_others_are_noised(sd1):
    given = concept(sd1, "sized")

    def attention(**inputs) -> float:
        inputs = {"width": 512, "height": 512, **inputs}
        return measured(execute(sd1, concept=given, steps=0, lowest_timestep=100, **inputs)[1])[0]["L_attn"][0]

    plain = attention(width=64, height=64)
    with torch.inference_mode():
        empty = {"samples": torch.zeros(1, 4, 8, 8), "downscale_ratio_spacial": 8}
        of_another_kind = {"samples": torch.zeros(1, 16, 8, 8), "downscale_ratio_spacial": 8}
        drawn = {"samples": torch.rand(3, 4, 8, 8)}
        picture = torch.rand(1, 64, 64, 3)
    assert plain == attention(latent=empty) == attention(latent=of_another_kind)
    assert len({plain, attention(latent=drawn), attention(images=picture, vae=sd1[2])}) == 3


@pytest.mark.parametrize("steps", [0, 2])
def test_tea_turns_a_concept_at_once_and_may_come_before_the_steps(family, embeddings, steps):
    from core_personalization.core_ops.embedding_adjustment import adjusted_towards
    from core_personalization.nodes.host.models.text_encoder import word_vectors

    first, second = concept(family, "tea-1", vectors=2), concept(family, "tea-2", seed=1)
    given = {"concept": first, "concept_2": second, "prompt": "a {} and a {2}", "overwrite": True, "save_as": "turned"}
    given |= {"steps": steps, "adjustment": "TEA", "tea_rotation": 0.3, "optimize_2": False}
    conditioning, report, turned = execute(family, **given)
    ids = [[token for token, _ in row[0]][1:2] for row in family[1].tokenize("dog").values()]
    for name, kind in word_vectors(family[1], ids).items():
        expected = adjusted_towards(first.vectors[name], kind.expand(2, -1), 0.3, 0.5)
        far = (turned.vectors[name] - expected).norm() / expected.norm()
        assert far < 1e-6 if steps == 0 else 1e-4 < far < 0.1
    assert ("TEA moved" if steps == 0 else "TEA and 2 steps in") in report
    assert same_bits(conditioning, core_encode(family[1], f"a {turned.token} and a {second.token}"))
    before, after = zip(*measured(report)[0].values(), strict=True)
    assert after < before


def test_words_of_the_model_become_an_embedding_when_they_are_refined(sd1):
    from core_personalization.nodes.sharing.concept_from_words import ConceptFromWords

    with torch.inference_mode():
        words, *_ = ConceptFromWords.execute(sd1[1], words="sks", super_category="dog", with_category=False).args
    _, _, refined = execute(sd1, concept=words, steps=1, save_as="of-words", overwrite=True)
    assert refined.phrase == "embedding:of-words"
