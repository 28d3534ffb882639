"""The nodes that train nothing, and test-time optimization, on the card."""

from __future__ import annotations

import pytest
import torch
from families import concepts, embedding, finetuning, probing, scoring
from families.scoring import without_drawing
from families.vision_language import load_vision_language
from robustness.subjects import optimize, probed_sampling


@pytest.mark.parametrize(
    "settings",
    [
        {"weighting": "balanced", "precision": "bf16", "gradient_checkpointing": True},
        {"precision": "fp16", "trust_limit": 0.1},
        {"latent": {"samples": torch.randn(2, 4, 4, 4)}},
    ],
    ids=["bf16", "fp16", "from a latent"],
)
def test_test_time_optimization_changes_the_prompts_encoding(models, settings):
    plain, optimized = (optimize(models, "prompt", steps=steps, **settings) for steps in (0, 2))
    assert optimized["conditioning"].isfinite().all()
    assert not torch.equal(plain["conditioning"], optimized["conditioning"])


def test_test_time_optimization_of_sdxl(sdxl):
    assert optimize(sdxl, "prompt", steps=2)["conditioning"].isfinite().all()


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_test_time_optimization_reads_pictures_of_either_device(models, where):
    pictures = torch.rand(1, 32, 32, 3, device=where)
    assert optimize(models, "seen", steps=2, images=pictures, vae=models[2])["conditioning"].isfinite().all()


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_a_probe_sees_maps_that_sum_to_one(models, where):
    from core_personalization.nodes.insight.attention_maps import AttentionMaps

    seen, latents = probed_sampling(models, each_step=True, heads="each")
    assert seen.captured(latents).shares().sum(-1).cpu() == pytest.approx(1, abs=1e-3)
    with torch.inference_mode():
        overlays, masks, *_ = AttentionMaps.execute(
            probe=seen, latent={"samples": latents}, images=torch.rand(1, 32, 32, 3, device=where)
        ).args
    assert overlays.isfinite().all() and masks.isfinite().all()


def test_a_network_of_layers_and_timesteps_is_drawn_by_the_run_that_learned_it(models):
    from core_personalization.nodes.sharing.apply_concept import ApplyConcept

    given = {"concept_name": "at-once", "method": "NeTI", "steps": 2, "learning_rate": 0.05}
    concept, *_ = embedding.execute(models, **given)
    with torch.inference_mode():
        model, text = ApplyConcept.execute(*models[:2], concept, "a {} in town").args
    drawn = probing.sample(probing.Loaded("", *models[:2]), model, probing.Sampling(steps=2), text, None)
    assert drawn.isfinite().all()


def test_sdxls_attention_is_seen(sdxl):
    seen, latents = probed_sampling(sdxl)
    assert seen.captured(latents).shares().isfinite().all()


def test_contexts_are_as_alike_as_on_the_cpu(models):
    from core_personalization.nodes.insight.context_similarity import ContextSimilarity

    with torch.inference_mode():
        _, table, *_ = ContextSimilarity.execute(models[1], None, prompt="a {} in the desert", words="dog\ncat").args
    assert "dog" in table and "nan" not in table


def test_dinov2_scores(vision_models):
    with without_drawing():
        scores = scoring.overall(scoring.execute(vision_models, dino_model=vision_models["dinov2"]))
    assert all(value == value for value in scores.values())


def test_a_vision_language_model_answers():
    from core_personalization.nodes.host.models.text_generation import Generation, describe

    with torch.inference_mode():
        assert describe(load_vision_language("a cat"), "What is this?", torch.rand(3, 64, 64), Generation(8, 0.0, 1))


def test_a_concept_is_saved_with_a_picture_on_the_card(models):
    concept = concepts.make_concept(models, "pictured")
    assert concepts.save(concept, preview=torch.rand(1, 64, 64, 3, device="cuda")).is_file()


def test_a_trained_model_is_sampled(models):
    model, *_ = finetuning.execute(models, form="full weights", scope="cross-attention layers", learning_rate=1e-2)
    drawn, base = (concepts.sample(each, models[1], "a dog") for each in (model, models[0]))
    assert drawn.isfinite().all() and not torch.equal(drawn, base)
