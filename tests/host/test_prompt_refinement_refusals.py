"""What "CoRe Test-Time Optimize" refuses, and refinements that stop: nothing is written, models stay as they are."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops.recipes import prompt_refinement
from core_personalization.core_ops.recipes.prompt_refinement import PromptRefinement
from core_personalization.core_ops.training.training_loop import NonFiniteLoss
from families.hashing import weights_hash
from families.load import load_family
from families.refining import concept, execute

REFUSED = [
    ({"prompt": "a dog in the jungle"}, r"prompt: .* has {} 0 times"),
    ({"prompt": "a {} and a {}"}, r"prompt: .* has {} 2 times"),
    ({"prompt": "my embedding:{} in the jungle"}, r"prompt: .* has embedding: before {}"),
    ({"prompt": "a {} and a {2}"}, r"concept_2: the prompt has \{2\}"),
    ({"concept_2": "second"}, r"prompt: .* has \{2\} 0 times"),
    ({"prompt": "a {} and a {3}", "concept_3": "third"}, r"concept_3: .* without a concept_2"),
    ({"prompt": "a {} " + "very " * 80 + "far"}, r"prompt: .* 2 rows of 77 tokens"),
    ({"prompt": "a {} with embedding:nowhere"}, r"embedding:nowhere does not exist"),
    ({"steps": -1}, r"steps: -1"),
    ({"batch_size": 0}, r"batch_size: 0"),
    ({"learning_rate": float("nan")}, r"learning_rate"),
    ({"width": 8}, r"width: 8"),
    ({"trust_limit": -0.1}, r"trust_limit"),
    ({"lowest_timestep": 999, "highest_timestep": 998}, r"lowest_timestep: 999 is above"),
    ({"embedding_weight": 0.0, "attention_weight": 0.0}, r"embedding_weight: both"),
    ({"embedding_weight": 0.0, "weighting": "balanced"}, r"embedding_weight: it is 0, and balanced"),
    ({"precision": "fp16"}, r"precision: fp16 needs a GPU"),
    ({"save_as": "../elsewhere"}, r"save_as: '../elsewhere' cannot be used"),
    ({"latent": {"samples": torch.ones(1, 16, 8, 8)}}, r"latent: it has shape \(1, 16, 8, 8\)"),
    ({"latent": {"samples": torch.zeros(1, 0, 16, 1)}}, r"latent: it has shape \(1, 0, 16, 1\)"),
    ({"latent": {"samples": torch.zeros(0, 4, 8, 8)}}, r"latent: it has shape \(0, 4, 8, 8\)"),
    ({"latent": {"samples": torch.ones(1, 4, 2, 8, 8)}}, r"latent: it has shape"),
    ({"images": torch.ones(1, 64, 64, 3)}, r"vae: images are connected, but no VAE"),
    ({"images": torch.ones(1, 64, 64, 3), "latent": {"samples": torch.ones(1, 4, 8, 8)}}, r"images: latent is"),
    ({"images": torch.ones(1, 4, 64, 3), "vae": "its own"}, r"images: .* at least 8×8"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_bad_input_is_refused_before_any_refinement(sd1, monkeypatch, given, message):
    from core_personalization.nodes.refinement import optimize_prompt

    monkeypatch.setattr(optimize_prompt, "refine_prompt", lambda *_: pytest.fail("work was started"))
    named = {socket: concept(sd1, given[socket]) for socket in ("concept_2", "concept_3") if socket in given}
    if "vae" in given:
        named["vae"] = sd1[2]
    with pytest.raises(ValueError, match=message):
        execute(sd1, concept=concept(sd1, "refused"), **{**given, **named})


def test_zeros_are_refused(sd1):
    given = concept(sd1, "of-zeros")
    for vectors in given.vectors.values():
        vectors.zero_()
    with pytest.raises(ValueError, match=r"^concept: 'of-zeros' has vectors of zeros"):
        execute(sd1, concept=given)


def test_a_concept_or_encoder_of_another_base_is_refused(sd1, embeddings):
    other = load_family("sd2", embedding_directory=str(embeddings))
    with pytest.raises(ValueError, match=r"concept: 'for-sd2' is an embedding for clip_h of width 1024"):
        execute(sd1, concept=concept(other, "for-sd2"))
    with pytest.raises(ValueError, match=r"clip: its text is 1024 wide"):
        execute((sd1[0], other[1], sd1[2]), concept=concept(sd1, "refused"))


def test_a_model_without_cross_attention_is_refused_by_name(sd1):
    class Flux(torch.nn.Module):
        diffusion_model = torch.nn.Linear(2, 2)

    other = sd1[0].clone()
    other.model = Flux()
    with pytest.raises(ValueError, match="Flux has no U-Net"):
        execute((other, sd1[1], sd1[2]), concept=concept(sd1, "refused"))


def test_cancel_stops_it_and_leaves_everything_as_it_was(sd1, embeddings, monkeypatch):
    import comfy.model_management
    from core_personalization.nodes.host.run_control import Cancelled

    given = concept(sd1, "interrupted")
    files, before, steps = sorted(embeddings.iterdir()), weights_hash(sd1), []
    update = PromptRefinement.update

    def update_and_cancel(recipe, step):
        steps.append(step)
        if step == 2:
            comfy.model_management.interrupt_current_processing()
        return update(recipe, step)

    monkeypatch.setattr(PromptRefinement, "update", update_and_cancel)
    with pytest.raises(Cancelled):
        execute(sd1, concept=given, save_as="never-written")
    assert steps == [1, 2]
    assert sorted(embeddings.iterdir()) == files and weights_hash(sd1) == before


def test_a_loss_that_is_not_finite_stops_it_and_is_named(sd1, embeddings, monkeypatch):
    term, calls = prompt_refinement.attention_term, []

    def becomes_nan(*arguments):
        calls.append(None)
        return term(*arguments) * (float("nan") if len(calls) == 4 else 1)  # one measurement, then steps

    files, before = sorted(embeddings.iterdir()), weights_hash(sd1)
    monkeypatch.setattr(prompt_refinement, "attention_term", becomes_nan)
    with pytest.raises(NonFiniteLoss, match=r"step 3: context_attention .*learning_rate"):
        execute(sd1, concept=concept(sd1, "interrupted"), save_as="never-written")
    assert sorted(embeddings.iterdir()) == files and weights_hash(sd1) == before


def test_running_out_of_memory_says_what_to_lower(sd1, monkeypatch):
    import comfy.model_management
    from core_personalization.nodes.host.models.denoiser import HostDenoiser

    def runs_out(*_):
        raise comfy.model_management.OOM_EXCEPTION("out of memory")

    monkeypatch.setattr(HostDenoiser, "_forward", runs_out)
    with pytest.raises(RuntimeError, match="batch_size, or width and height, or switch gradient_checkpointing on"):
        execute(sd1, concept=concept(sd1, "interrupted"))
