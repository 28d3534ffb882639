"""Trainings of an embedding that are cancelled, fail or are resumed: nothing is lost, and the host is as it was."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from core_personalization.core_ops.losses.context_losses import token_means
from core_personalization.core_ops.recipes.context_regularization import ContextRegularization
from core_personalization.core_ops.training import training_loop
from families.embedding import execute, host_conditioning
from families.hashing import weights_hash
from families.stopping import cancel_after


@pytest.mark.parametrize("step", [1, 3])
def test_cancel_keeps_all_and_resumed_equals_uninterrupted(sd1, embeddings, monkeypatch, step):
    from core_personalization.nodes.host.run_control import Cancelled

    before = weights_hash(sd1)
    whole, _, whole_losses, *_ = execute(sd1, concept_name="whole")
    with monkeypatch.context() as patch:
        cancel_after(patch, step)
        with pytest.raises(Cancelled):
            execute(sd1, concept_name=f"cancelled-{step}")
    assert weights_hash(sd1) == before
    kept = host_conditioning(sd1[1], f"a embedding:cancelled-{step}-steps/cancelled-{step}-step{step}")
    assert not torch.equal(kept, host_conditioning(sd1[1], "a dog"))

    resumed, _, losses, *_ = execute(sd1, concept_name=f"cancelled-{step}")
    assert torch.equal(resumed.vectors["clip_l"], whole.vectors["clip_l"])
    assert losses == whole_losses


def test_an_error_keeps_what_was_learned_and_leaves_the_host(sd1, embeddings, monkeypatch):
    attention_loss, calls = ContextRegularization.attention_loss, []

    def becomes_nan(recipe, *arguments):
        value = attention_loss(recipe, *arguments)
        calls.extend([None] * (not value.is_meta))  # the rehearsal for the memory plan is no step
        return value * float("nan") if len(calls) == 3 else value

    before = weights_hash(sd1)
    image_before = sample(sd1)
    monkeypatch.setattr(ContextRegularization, "attention_loss", becomes_nan)
    with pytest.raises(training_loop.NonFiniteLoss, match=r"step 3: context_attention .*learning_rate"):
        execute(sd1, concept_name="not-finite")
    assert (embeddings / "not-finite-steps" / "not-finite-step2.safetensors").is_file()
    assert not (embeddings / "not-finite.safetensors").exists()
    assert weights_hash(sd1) == before
    assert torch.equal(sample(sd1), image_before)


def sample(models) -> torch.Tensor:
    """Three steps of core's sampler."""
    import comfy.sample

    model, clip, _ = models
    with torch.inference_mode():
        latent = torch.zeros(1, 4, 8, 8)
        noise = comfy.sample.prepare_noise(latent, 3)
        positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a dog", ""))
        return comfy.sample.sample(
            model, noise, 3, 2.0, "euler", "normal", positive, negative, latent, seed=3, disable_pbar=True
        ).clone()


def test_generation_after_training_equals_generation_before(sd1):
    before = sample(sd1)
    execute(sd1, concept_name="harmless")
    assert torch.equal(sample(sd1), before)


def test_a_full_disk_while_stopping_does_not_hide_why_it_stopped(sd1, monkeypatch):
    from core_personalization.nodes.host.run_control import Cancelled
    from core_personalization.nodes.training.session import Session

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Session, "save_state", full_disk)
    cancel_after(monkeypatch, 2)
    with pytest.raises(Cancelled):
        execute(sd1, concept_name="full-disk")


def test_out_of_memory_says_what_to_lower_and_keeps_the_rest(sd1, embeddings, monkeypatch):
    import comfy.model_management
    from core_personalization.nodes.host.models.denoiser import HostDenoiser

    forward, calls = HostDenoiser._forward, []

    def runs_out(denoiser, *arguments):
        calls.extend([None] * (denoiser.device.type != "meta"))  # the rehearsal for the memory plan is no step
        if len(calls) == 10:  # two for the steady loss, three a step
            raise comfy.model_management.OOM_EXCEPTION("out of memory")
        return forward(denoiser, *arguments)

    monkeypatch.setattr(HostDenoiser, "_forward", runs_out)
    with pytest.raises(RuntimeError, match=r"batch_size or resolution, or switch gradient_checkpointing"):
        execute(sd1, concept_name="too-large")
    assert (embeddings / "too-large-steps" / "too-large-step2.safetensors").is_file()


class Marker:
    """Lives as long as the graph that it is put into."""


class InGraph(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, marker):
        ctx.marker = marker
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def test_a_step_leaves_nothing_for_the_garbage_collector(sd1):
    """Graphs in reference cycles would pile up: few Python objects, so the collector seldom comes, and gigabytes."""
    from core_personalization.nodes.host.models.denoiser import HostDenoiser, UNetPlan
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    model, clip, _ = sd1
    denoiser, encoder = HostDenoiser(model, UNetPlan(torch.float32)), HostTextEncoder(clip)
    vectors = {"clip_l": torch.randn(1, 768, requires_grad=True)}
    gc.collect()
    gc.disable()
    try:
        marker = Marker()
        marked = {name: InGraph.apply(value, marker) for name, value in vectors.items()}
        text = encoder.encode([PromptRows(clip, "dog").concept("a {} in the snow")], marked)
        prediction, means = denoiser.with_attention(torch.randn(1, 4, 8, 8), torch.tensor([10]), text, token_means)
        torch.autograd.grad(sum(mean.square().sum() for mean in means), list(vectors.values()), retain_graph=True)
        alive = weakref.ref(marker)
        del marker, marked, text, prediction, means
        assert alive() is None
    finally:
        gc.enable()
