"""The node "CoRe Train Embedding" on real ComfyUI objects: small random-weight models of all four families."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import pytest
import torch
from core_personalization.core_ops.losses.context_losses import token_means
from core_personalization.core_ops.prompts.prompt_templates import validate_template
from core_personalization.core_ops.recipes.context_regularization import ContextRegularization
from core_personalization.core_ops.training import training_loop
from core_personalization.core_ops.training.training_data import draw_batch
from core_personalization.nodes.files.safe_files import read, tensor_hash
from families.build import FAMILIES
from families.hashing import weights_hash
from families.load import load_family
from families.prepared import Prepared
from safetensors.torch import load_file, save_file

SETTINGS: dict[str, Any] = {
    "super_category": "dog",
    "steps": 4,
    "batch_size": 2,
    "resolution": 64,
    "rescale_from": 2,
    "rescale_to": 3,
    "precision": "fp32",
    "preview_every": 0,
    "save_every": 0,
    "overwrite": True,
}


def pictures(count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """Noise on a gradient, as an image node hands it over: inference tensors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return [torch.rand(1, 64, 64, 3, generator=generator) * torch.linspace(0, 1, 64)[:, None] for _ in range(count)]


def execute(models, images=None, masks=None, captions=None, **settings):
    """The node as the host runs it: under inference mode, every input a list."""
    from core_personalization.nodes.embedding.train_embedding import TrainEmbedding

    model, clip, vae = models
    values = {name: [value] for name, value in {**SETTINGS, **settings}.items()}
    with torch.inference_mode():
        return TrainEmbedding.execute([model], [clip], [vae], images or pictures(), masks, captions, **values).args


def host_conditioning(clip, prompt: str) -> torch.Tensor:
    """What core's CLIP Text Encode gives."""
    with torch.inference_mode():
        return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0][0].clone()


@pytest.mark.every_comfyui
@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_trains_and_core_reads_its_file_alike(family, embeddings):
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    models = load_family(family, embedding_directory=str(embeddings))
    before = weights_hash(models)
    concept, token, loss_map, preview = execute(models, concept_name=f"family-{family}", vectors=2)
    assert weights_hash(models) == before
    assert token == f"embedding:family-{family}"
    assert len(loss_map["loss"]) == len(loss_map["context_attention"]) == 4
    assert preview.shape == (1, 64, 256, 3)

    keys = {"clip_l", "clip_g"} if family == "sdxl" else {"emb_params"}
    tensors = load_file(concept.path)
    assert tensors.keys() == keys
    assert all(tensor.shape[0] == 2 and tensor.dtype == torch.float32 for tensor in tensors.values())

    clip = models[1]
    row = PromptRows(clip, "dog", vectors=2).concept("a (red:1.3) {}, in the jungle")
    trained = HostTextEncoder(clip).encode([row], concept.vectors).context
    written = host_conditioning(clip, f"a (red:1.3) {token}, in the jungle")
    assert (trained - written).abs().max() < 1e-5


@pytest.mark.parametrize("method", ["CoRe", "CoRe (reference code)", "AttnDreamBooth stage 1", "Textual Inversion"])
def test_every_method_trains_with_everything_connected(sd1, method):
    concept, token, losses, _ = execute(
        sd1,
        images=[*pictures(1), torch.rand(1, 80, 70, 4)],
        masks=[torch.rand(1, 64, 64), torch.rand(1, 80, 70)],
        captions=["a {} on a table", "a {} in the grass"],
        concept_name="everything",
        method=method,
        super_category="teddy bear",
        augmentation=2,
        fit="pad",
        weighting="balanced",
        gradient_accumulation=2,
        gradient_checkpointing=True,
        max_gradient_norm=1.0,
        regularization_batch=1,
        initial_words="small brown toy",
        prompt_set="own",
        own_prompts="a {} in snow\n# comment\na red {}",
        preview_every=2,
    )
    assert token == ("embedding:everything teddy bear" if method.startswith("Attn") else "embedding:everything")
    assert concept.phrase == token
    assert all(value == value for value in losses["loss"])


def test_gradient_checkpointing_changes_nothing_but_rounding(sd1):
    runs = [execute(sd1, concept_name="checkpointed", gradient_checkpointing=on)[0] for on in (False, True)]
    torch.testing.assert_close(runs[0].vectors, runs[1].vectors, rtol=1e-5, atol=1e-7)


def test_the_same_seed_gives_the_same_file_tensors(sd1):
    first, second, other = (execute(sd1, concept_name="seeded", seed=seed)[0].vectors["clip_l"] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def cancel_after(monkeypatch, step: int) -> None:
    """The user presses cancel while step `step` runs."""
    import comfy.model_management
    from core_personalization.nodes.training.session import Session

    note = Session._note

    def note_and_cancel(run, report):
        note(run, report)
        if report.step == step:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(Session, "_note", note_and_cancel)


@pytest.mark.parametrize("step", [1, 3])
def test_cancel_keeps_all_and_resumed_equals_uninterrupted(sd1, embeddings, monkeypatch, step):
    from core_personalization.nodes.host.run_control import Cancelled

    before = weights_hash(sd1)
    whole, _, whole_losses, _ = execute(sd1, concept_name="whole")
    with monkeypatch.context() as patch:
        cancel_after(patch, step)
        with pytest.raises(Cancelled):
            execute(sd1, concept_name="cancelled")
    assert weights_hash(sd1) == before
    kept = host_conditioning(sd1[1], f"a embedding:cancelled-step{step}")
    assert not torch.equal(kept, host_conditioning(sd1[1], "a dog"))

    resumed, _, losses, _ = execute(sd1, concept_name="resumed", resume_from="cancelled")
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
        execute(sd1, concept_name="nan")
    assert (embeddings / "nan-step2.safetensors").is_file()
    assert not (embeddings / "nan.safetensors").exists()
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


def test_applied_patches_count_in_training(sd1):
    """A LoRA on the incoming MODEL changes what is learned."""
    model, clip, vae = sd1
    key = next(name for name in model.model.state_dict() if name.endswith("attn2.to_k.weight"))
    patched = model.clone()
    with torch.inference_mode():
        patched.add_patches({key: (torch.randn_like(model.model.state_dict()[key]),)}, 1.0)
    plain, _, _, _ = execute(sd1, concept_name="plain")
    changed, _, _, _ = execute((patched, clip, vae), concept_name="patched")
    assert not torch.equal(plain.vectors["clip_l"], changed.vectors["clip_l"])


REFUSED = [
    ({"images": [torch.zeros(0, 64, 64, 3)]}, "images: none came"),
    ({"images": [torch.rand(1, 4, 64, 3)]}, "at least 8×8"),
    ({"masks": [torch.rand(1, 64, 64)]}, "masks: 1 came for 2"),
    ({"caption_template": "a photo of a dog"}, "caption_template: .* has {} 0 times"),
    ({"captions": ["a {} and a {}", "a {}"]}, "captions: .* has {} 2 times"),
    ({"captions": ["a {}"]}, "captions: 1 came for 2"),
    ({"captions": ["a {} " + "very " * 90 + "far", "a {}"]}, "rows of 77 tokens"),
    ({"caption_template": "a photo of my{}"}, "caption_template: .* glued to other characters"),
    ({"caption_template": "a {} with embedding:nothing-there"}, "does not exist"),
    ({"super_category": "  "}, "super_category"),
    ({"initial_words": "a embedding:other"}, "plain words here and in initial_words"),
    ({"concept_name": "../evil"}, "concept_name"),
    ({"concept_name": "two words"}, "concept_name"),
    ({"concept_name": "con"}, "concept_name"),
    ({"steps": 0}, "steps: 0"),
    ({"batch_size": 0}, "batch_size: 0"),
    ({"learning_rate": float("nan")}, "learning_rate"),
    ({"rescale_from": 9, "rescale_to": 8}, "rescale_from: 9"),
    ({"method": "DreamBooth"}, "method: 'DreamBooth'"),
    ({"prompt_set": "own", "own_prompts": "a dog"}, "own_prompts"),
    ({"weighting": "balanced", "embedding_share": 0.6, "attention_share": 0.4}, "embedding_share"),
    ({"precision": "fp16"}, "precision: fp16 needs a GPU"),
    ({"resume_from": "never-saved"}, "resume_from: there is no saved state"),
    ({"resolution": 60}, "resolution: 60"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_bad_input_is_refused_before_training(sd1, embeddings, monkeypatch, given, message):
    from core_personalization.nodes.embedding import train_embedding

    monkeypatch.setattr(train_embedding, "train_embedding", lambda *_: pytest.fail("training was started"))
    files = sorted(embeddings.iterdir())
    with pytest.raises(ValueError, match=message):
        execute(sd1, **{"concept_name": "refused", **given})
    assert sorted(embeddings.iterdir()) == files


def test_an_existing_name_is_refused_unless_overwrite_is_on(sd1):
    execute(sd1, concept_name="taken", steps=1)
    with pytest.raises(ValueError, match="exists already"):
        execute(sd1, concept_name="taken", steps=1, overwrite=False)


def test_a_state_of_other_settings_is_refused(sd1, monkeypatch):
    execute(sd1, concept_name="stateful", save_every=2)
    with pytest.raises(ValueError, match="another model, other settings"):
        execute(sd1, concept_name="other", resume_from="stateful", seed=5)
    with pytest.raises(ValueError, match="set steps to that or more"):
        execute(sd1, concept_name="other", resume_from="stateful", steps=3)


def test_models_of_other_kinds_are_refused_by_name(sd1):
    from core_personalization.nodes.host.models.denoiser import validate_model

    class Flux(torch.nn.Module):
        diffusion_model = torch.nn.Linear(2, 2)

    other = sd1[0].clone()
    other.model = Flux()
    with pytest.raises(ValueError, match="Flux has no U-Net"):
        validate_model(other)


def test_an_embedding_of_another_base_model_is_refused(sd1, embeddings):
    save_file({"emb_params": torch.zeros(1, 1024)}, embeddings / "for-sd2.safetensors")
    with pytest.raises(ValueError, match="another base model"):
        execute(sd1, concept_name="refused", caption_template="a {} with embedding:for-sd2")


def test_concept_prompt_fills_the_template(sd1):
    from core_personalization.nodes.sharing.concept_prompt import ConceptPrompt

    concept, _, _, _ = execute(sd1, concept_name="prompted", steps=1)
    assert ConceptPrompt.execute(concept, "a {} in space").args == ("a embedding:prompted in space",)
    with pytest.raises(ValueError, match="template"):
        ConceptPrompt.execute(concept, "a dog")


def test_core_lowers_both_regularizers_and_both_methods_learn(sd1):
    """Over the prompt set, against Textual Inversion; diffusion loss on fixed (image, ε, t)."""

    def finish(method):
        run = trained_run(
            sd1,
            method=method,
            steps=20,
            learning_rate=5e-3,
            embedding_weight=0.5,
            attention_weight=500.0,
            regularization_batch=1,
            rescale_to=0,
        )
        generator = torch.Generator().manual_seed(99)
        batches = [draw_batch(run.loop.recipe.problem.latents, run.denoiser.schedule, 2, generator) for _ in range(8)]
        return run, batches

    core, batches = finish("CoRe")
    plain, _ = finish("Textual Inversion")
    regularizers = {
        name: regularization(core.loop.recipe, run.embedding, batches[0])
        for name, run in {"core": core, "plain": plain}.items()
    }
    assert regularizers["core"][0] < regularizers["plain"][0]
    assert regularizers["core"][1] < regularizers["plain"][1]
    start = core.start
    for run in (core, plain):
        assert fixed_diffusion_loss(run, run.embedding.vectors, batches) < fixed_diffusion_loss(run, start, batches)


def trained_run(models, **settings):
    from core_personalization.nodes.embedding.embedding_inputs import check_inputs
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
    from core_personalization.nodes.embedding.embedding_training import ready_to_train
    from core_personalization.nodes.host.models.host_models import HostModels
    from core_personalization.nodes.settings import validated

    host = HostModels(*models)
    chosen = validated(EmbeddingSettings, {**SETTINGS, "concept_name": "measured", **settings})
    with torch.inference_mode():
        checked = check_inputs(host, pictures(), None, None, chosen)
        run = Prepared(ready_to_train(host, checked), checked)
        run.train()
    return run


@torch.no_grad()
def regularization(recipe, embedding, batch) -> tuple[float, float]:
    """L_emb and L_attn summed over every fifth prompt of the set."""
    sums = [0.0, 0.0]
    for index, pair in list(enumerate(recipe.prompts))[::5]:
        text = recipe.problem.encoder.encode([pair.concept], embedding.vectors)
        reference = recipe.reference(index)
        sums[0] += float(recipe.embedding_loss(text, reference, pair))
        sums[1] += float(recipe.attention_loss(batch, text, reference, pair))
    return sums[0], sums[1]


@torch.no_grad()
def fixed_diffusion_loss(run, vectors, batches) -> float:
    texts = [run.encoder.encode(batch.captions, vectors) for batch in batches]
    return sum(float(batch.diffusion_loss(run.denoiser, text)) for batch, text in zip(batches, texts, strict=True))


def test_the_file_says_what_it_is_and_how_it_was_made(sd1):
    concept, _, losses, _ = execute(sd1, concept_name="with-card", seed=5)
    tensors, metadata = read(concept.path)
    assert metadata["modelspec.trigger_phrase"] == "embedding:with-card"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert metadata["modelspec.hash_sha256"] == tensor_hash(tensors)
    card = {key.removeprefix("core_personalization."): value for key, value in metadata.items()}
    assert json.loads(card["settings"])["seed"] == 5
    assert json.loads(card["final_terms"])["diffusion"] == losses["diffusion"][-1]
    assert len(json.loads(card["base_model_fingerprint"])) == 64


def test_whole_maps_average_to_the_token_means(sd1):
    from core_personalization.nodes.host.models.denoiser import HostDenoiser, UNetPlan
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    model, clip, _ = sd1
    denoiser = HostDenoiser(model, UNetPlan(torch.float32, 64, 64))
    with torch.no_grad():
        text = HostTextEncoder(clip).encode([PromptRows(clip, "dog").text("a dog in the snow")], {})
        inputs = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), text
        plain = denoiser(*inputs)
        prediction, means = denoiser.with_attention(*inputs, token_means)
        _, maps = denoiser.with_attention(*inputs, lambda probabilities: probabilities)
    torch.testing.assert_close(prediction, plain, rtol=1e-4, atol=1e-5)
    assert len(maps) == len(means) > 1
    for layer, mean in zip(maps, means, strict=True):
        assert layer.shape[0] == 2 and layer.shape[-1] == 77
        torch.testing.assert_close(layer.sum(-1), torch.ones(layer.shape[:-1]))
        torch.testing.assert_close(layer.mean((1, 2)), mean)


@pytest.mark.parametrize("template", ["a {}, in the snow", "a (red {}:1.2) in the snow", "{}", "a ({}) in snow"])
def test_every_template_that_is_allowed_is_found_by_the_host(sd1, template):
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    validate_template("template", template)
    assert len(PromptRows(sd1[1], "dog", vectors=3).concept(template).span) == 3


def test_a_full_disk_while_stopping_does_not_hide_why_it_stopped(sd1, monkeypatch):
    from core_personalization.nodes.host.run_control import Cancelled
    from core_personalization.nodes.training.session import Session

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Session, "save_state", full_disk)
    cancel_after(monkeypatch, 2)
    with pytest.raises(Cancelled):
        execute(sd1, concept_name="full-disk")


def test_a_text_encoder_of_another_family_is_refused(sd1, embeddings):
    _, other_clip, _ = load_family("sd2", embedding_directory=str(embeddings))
    with pytest.raises(ValueError, match="clip: its text is 1024 wide, this BaseModel reads 768"):
        execute((sd1[0], other_clip, sd1[2]), concept_name="refused")


def test_out_of_memory_says_what_to_lower_and_keeps_the_rest(sd1, embeddings, monkeypatch):
    import comfy.model_management
    from core_personalization.nodes.host.models.denoiser import HostDenoiser

    forward, calls = HostDenoiser._forward, []

    def runs_out(denoiser, *arguments):
        calls.extend([None] * (denoiser.device.type != "meta"))  # the rehearsal for the memory plan is no step
        if len(calls) == 8:  # three passes a step
            raise comfy.model_management.OOM_EXCEPTION("out of memory")
        return forward(denoiser, *arguments)

    monkeypatch.setattr(HostDenoiser, "_forward", runs_out)
    with pytest.raises(RuntimeError, match=r"batch_size or resolution, or switch gradient_checkpointing"):
        execute(sd1, concept_name="too-large")
    assert (embeddings / "too-large-step2.safetensors").is_file()


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
    denoiser, encoder = HostDenoiser(model, UNetPlan(torch.float32, 64, 64)), HostTextEncoder(clip)
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
